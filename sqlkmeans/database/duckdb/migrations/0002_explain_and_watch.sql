-- Preparation of categories and dates, explanations, comparison with the run before, scores by k.
ALTER TABLE sqlkmeans.run ADD COLUMN compared_run_id bigint;
ALTER TABLE sqlkmeans.run ADD COLUMN psi double;
ALTER TABLE sqlkmeans.run ADD COLUMN centroid_shift double;
ALTER TABLE sqlkmeans.run ADD COLUMN mean_distance double;
ALTER TABLE sqlkmeans.run ADD COLUMN recommendation varchar;

ALTER TABLE sqlkmeans.model_feature ADD COLUMN source_column varchar;
ALTER TABLE sqlkmeans.model_feature ADD COLUMN type varchar DEFAULT 'number';
ALTER TABLE sqlkmeans.model_feature ADD COLUMN level varchar;
ALTER TABLE sqlkmeans.model_feature ADD COLUMN low double;
ALTER TABLE sqlkmeans.model_feature ADD COLUMN high double;
ALTER TABLE sqlkmeans.model_feature ADD COLUMN reference_date date;
UPDATE sqlkmeans.model_feature SET source_column = feature;

ALTER TABLE sqlkmeans.segment ADD COLUMN rule varchar;
ALTER TABLE sqlkmeans.segment ADD COLUMN rule_precision double;
ALTER TABLE sqlkmeans.segment ADD COLUMN rule_coverage double;
ALTER TABLE sqlkmeans.segment ADD COLUMN silhouette double;
ALTER TABLE sqlkmeans.segment ADD COLUMN centroid_shift double;

CREATE TABLE sqlkmeans.typical_customer (
    run_id      bigint  NOT NULL,
    segment_id  integer NOT NULL,
    rank        integer NOT NULL,
    customer    varchar NOT NULL,
    distance    double  NOT NULL,
    PRIMARY KEY (run_id, segment_id, rank)
);

CREATE TABLE sqlkmeans.feature_bin (
    run_id     bigint  NOT NULL,
    position   integer NOT NULL,
    bin        integer NOT NULL,
    feature    varchar NOT NULL,
    label      varchar NOT NULL,
    upper      double,
    customers  bigint  NOT NULL,
    PRIMARY KEY (run_id, position, bin)
);

CREATE TABLE sqlkmeans.feature_drift (
    run_id                  bigint  NOT NULL,
    position                integer NOT NULL,
    feature                 varchar NOT NULL,
    psi                     double  NOT NULL,
    mean                    double,
    previous_mean           double,
    missing_share           double  NOT NULL,
    previous_missing_share  double  NOT NULL,
    PRIMARY KEY (run_id, position)
);

CREATE TABLE sqlkmeans.k_score (
    run_id                 bigint  NOT NULL,
    k                      integer NOT NULL,
    inertia                double  NOT NULL,
    silhouette             double,
    simplified_silhouette  double,
    davies_bouldin         double,
    calinski_harabasz      double,
    gap                    double,
    gap_error              double,
    separation             double,
    separation_error       double,
    stability              double,
    smallest_share         double,
    recommended            boolean NOT NULL,
    PRIMARY KEY (run_id, k)
);
