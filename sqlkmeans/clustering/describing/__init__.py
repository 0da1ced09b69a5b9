"""What labelled rows look like: profiles, scores, rules, names."""
