-- Last in the build order: views and functions that were made anew have lost their grants.
-- Procedures that are not granted here are reached only from those that are.
ALTER ROLE sqlkmeans_reader ADD MEMBER sqlkmeans_operator;
GO
ALTER ROLE sqlkmeans_operator ADD MEMBER sqlkmeans_admin;
GO
-- Tables, views and the functions that score a row.
GRANT SELECT ON SCHEMA::sqlkmeans TO sqlkmeans_reader;
GO
GRANT EXECUTE ON sqlkmeans.version TO sqlkmeans_reader;
GO
GRANT EXECUTE ON sqlkmeans.lock_segmentation TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.unlock_segmentation TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.start_run TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.create_parts TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.publish_run TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.finish_choice TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.fail_run TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.assign_segments TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.run_segmentation TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.rollback_segmentation TO sqlkmeans_operator;
GRANT EXECUTE ON sqlkmeans.rename_segment TO sqlkmeans_operator;
GO
GRANT EXECUTE ON sqlkmeans.define_segmentation TO sqlkmeans_admin;
GRANT EXECUTE ON sqlkmeans.purge TO sqlkmeans_admin;
GRANT EXECUTE ON sqlkmeans.drop_segmentation TO sqlkmeans_admin;
GRANT EXECUTE ON sqlkmeans.create_agent_job TO sqlkmeans_admin;
GRANT EXECUTE ON sqlkmeans.drop_agent_job TO sqlkmeans_admin;
GO
