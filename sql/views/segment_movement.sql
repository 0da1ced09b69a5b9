-- How many customers went from one segment to another between any two published runs; made anew
-- from the histories that there are, at each training run too. NULL as a segment: not there yet,
-- or not any more.
EXECUTE sqlkmeans.refresh_movement;
GO
