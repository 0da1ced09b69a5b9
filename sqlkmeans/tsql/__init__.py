"""T-SQL as text: the scripts of ``sql/``, scoring functions, the embedded Python."""
