-- Version 3: up to where a run has seen changes of its source.
ALTER TABLE sqlkmeans.run ADD COLUMN high_water varchar;
