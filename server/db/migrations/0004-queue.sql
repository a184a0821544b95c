-- Tasks, their runs, what waits for a worker, who holds what, and who waits for whom.

create schema queue;

-- The place in the line of a pending run.
create sequence queue.pending_seq;

-- One row per task, kept small and rewritten in place: no index holds a column that changes. What clients see is stored as JSON text and spliced:
-- `head` is the part of the status that never changes, `run` the last run (fields are only ever appended), `past` the earlier runs. The last run is
-- held by a worker, or was, exactly when `taken_until` is set. `definition` is an object's text without its `{` and without the priority.
create table queue.tasks (
  task_id text collate "C" primary key,
  task_group_id text collate "C" not null,
  task_queue_id text collate "C" not null,
  scheduler_id text collate "C" not null,
  project_id text collate "C" not null,
  priority smallint not null,                          -- 1 highest … 7 lowest
  retries smallint not null,
  retries_left smallint not null,
  state text collate "C" not null,
  run_id smallint not null,                            -- the last run; -1 while there is none
  unmet int not null,                                  -- dependencies that are not satisfied yet
  times_resolved int not null default 0,               -- above 0: "was ever resolved"
  claimed_directly boolean not null default false,     -- the last claim named the task, it did not ask for any work
  pending_seq bigint,                                  -- key of the row in `pending`, if there is one
  taken_until timestamptz,
  worker_group text collate "C",
  worker_id text collate "C",
  deadline timestamptz not null,
  expires timestamptz not null,
  head text not null,
  run text not null default '',
  past text,
  tags text not null,
  cc text not null,                                    -- routing keys beyond the first, as JSON text
  scopes text not null,
  definition text not null
) with (fillfactor = 50); -- a definition of 2 KB leaves room for the next version in the same page, so that updates stay out of the indexes
create index tasks_group on queue.tasks (task_group_id, task_id collate platform.protocol_order);
create index tasks_deadline on queue.tasks (deadline, task_id);
create index tasks_expires on queue.tasks (expires);

-- Runs that wait for a worker, in the order in which they are handed out.
create table queue.pending (
  task_queue_id text collate "C" not null,
  priority smallint not null,
  seq bigint not null,
  task_id text collate "C" not null,
  run_id smallint not null,
  deadline timestamptz not null,
  inserted timestamptz not null,
  primary key (task_queue_id, priority, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

-- Runs that a worker holds; the expiry loop reads from the left. `answered` says that the worker is known to have received it.
create table queue.claims (
  taken_until timestamptz not null,
  task_id text collate "C" not null,
  run_id smallint not null,
  task_queue_id text collate "C" not null,
  worker_group text collate "C" not null,
  worker_id text collate "C" not null,
  claimed timestamptz not null,
  answered boolean not null default false,
  primary key (taken_until, task_id, run_id)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index claims_queue on queue.claims (task_queue_id, claimed, task_id);

-- Who waits for whom. Satisfied stays satisfied.
create table queue.deps (
  required text collate "C" not null,
  dependent text collate platform.protocol_order not null,
  any_outcome boolean not null,                        -- all-resolved: failures count too
  satisfied boolean not null,
  expires timestamptz not null,                        -- the dependent's
  primary key (required, dependent)
) with (fillfactor = 80);
create index deps_expires on queue.deps (expires);

-- Resolved tasks with more dependents than one transaction should release: a loop works them off.
create table queue.fanouts (
  task_id text collate "C" primary key,
  completed boolean not null
);

-- `unresolved` counts the tasks that were never resolved. It never becomes negative: a statement that finds the group sealed or another scheduler's
-- after all sets it to -1, which undoes its transaction.
create table queue.groups (
  task_group_id text collate "C" primary key,
  scheduler_id text collate "C" not null,
  expires timestamptz not null,
  sealed timestamptz,
  unresolved int not null,
  constraint groups_open_to_scheduler check (unresolved >= 0)
) with (fillfactor = 30);
create index groups_expires on queue.groups (expires);

-- How far a loop has come through an index that only grows.
create table queue.progress (
  name text collate "C" primary key,
  at timestamptz not null
);
