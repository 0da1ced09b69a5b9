-- The tables of schema sqlkmeans, as docs/tables.md describes them.
CREATE SEQUENCE sqlkmeans.run_id START 1;

CREATE TABLE sqlkmeans.segmentation (
    name             varchar   NOT NULL PRIMARY KEY,
    definition       varchar   NOT NULL,
    target           varchar   NOT NULL,
    active_run_id    bigint,
    last_segment_id  integer   NOT NULL DEFAULT 0,
    created_at       timestamp NOT NULL,
    updated_at       timestamp NOT NULL
);

CREATE TABLE sqlkmeans.run (
    run_id             bigint    NOT NULL PRIMARY KEY,
    segmentation       varchar   NOT NULL,
    kind               varchar   NOT NULL,
    status             varchar   NOT NULL,
    engine             varchar   NOT NULL,
    definition         varchar   NOT NULL,
    model_run_id       bigint,
    restored_run_id    bigint,
    k                  integer,
    "rows"             bigint,
    skipped            bigint,
    changed            bigint,
    arrived            bigint,
    moved              bigint,
    departed           bigint,
    written            bigint,
    inertia            double,
    n_iter             integer,
    silhouette         double,
    davies_bouldin     double,
    calinski_harabasz  double,
    seconds_read       double,
    seconds_fit        double,
    seconds_assign     double,
    seconds_publish    double,
    seconds_total      double,
    started_at         timestamp NOT NULL,
    published_at       timestamp,
    finished_at        timestamp,
    sqlkmeans_version  varchar   NOT NULL,
    library_versions   varchar,
    client             varchar,
    warnings           varchar,
    error              varchar
);

CREATE TABLE sqlkmeans.model_feature (
    run_id     bigint  NOT NULL,
    position   integer NOT NULL,
    feature    varchar NOT NULL,
    transform  varchar NOT NULL,
    weight     double  NOT NULL,
    center     double  NOT NULL,
    scale      double  NOT NULL,
    fill       double,
    PRIMARY KEY (run_id, position)
);

CREATE TABLE sqlkmeans.centroid (
    run_id        bigint  NOT NULL,
    segment_id    integer NOT NULL,
    position      integer NOT NULL,
    feature       varchar NOT NULL,
    value         double  NOT NULL,
    scaled_value  double  NOT NULL,
    PRIMARY KEY (run_id, segment_id, position)
);

CREATE TABLE sqlkmeans.segment (
    run_id       bigint  NOT NULL,
    segment_id   integer NOT NULL,
    name         varchar NOT NULL,
    name_source  varchar NOT NULL,
    description  varchar NOT NULL,
    size         bigint  NOT NULL,
    share        double  NOT NULL,
    within_ss    double  NOT NULL,
    PRIMARY KEY (run_id, segment_id)
);

CREATE TABLE sqlkmeans.segment_feature (
    run_id      bigint  NOT NULL,
    segment_id  integer NOT NULL,
    position    integer NOT NULL,
    feature     varchar NOT NULL,
    mean        double,
    deviation   double,
    "min"       double,
    median      double,
    "max"       double,
    missing     bigint  NOT NULL,
    importance  double  NOT NULL,
    PRIMARY KEY (run_id, segment_id, position)
);
