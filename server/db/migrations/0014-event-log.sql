-- What was announced lately, in the order of the relay's commits, so that a listener that was away goes on where it stopped. One row per row of the
-- outbox, written by the relay in the transaction that takes it: a single writer, so that seq has no gaps and no row appears below one that was read.
create table platform.event_log (
  seq bigint primary key,
  outbox_id bigint not null,
  written timestamptz not null,
  msg text not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1);
