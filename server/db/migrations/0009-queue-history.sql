-- What explains a past moment of the queue, as far as tasks and runs do not tell it themselves. Creating, claiming and reporting write none of it.

-- What somebody did to a task by hand. `kind` is schedule, rerun, cancel or priority; ranks of priorities with the last one only.
create table queue.task_changes (
  task_id text collate "C" not null,
  seq bigint generated always as identity,
  at timestamptz not null,
  kind text collate "C" not null,
  of_group boolean not null,                           -- the whole group was changed
  client_id text not null,
  old_priority smallint,
  new_priority smallint,
  primary key (task_id, seq)
);
create index task_changes_at on queue.task_changes (at);

-- Every change of a worker's quarantine: a worker's own row forgets it with the worker.
create table queue.quarantines (
  task_queue_id text collate "C" not null,
  worker_group text collate "C" not null,
  worker_id text collate "C" not null,
  changed timestamptz not null,
  quarantine_until timestamptz not null,
  keep_until timestamptz not null,
  primary key (task_queue_id, worker_group, worker_id, changed)
);
create index quarantines_keep_until on queue.quarantines (keep_until);

insert into queue.quarantines (task_queue_id, worker_group, worker_id, changed, quarantine_until, keep_until)
select w.task_queue_id, w.worker_group, w.worker_id, (d ->> 'updatedAt')::timestamptz, (d ->> 'quarantineUntil')::timestamptz,
  greatest((d ->> 'updatedAt')::timestamptz, w.quarantine_until) + interval '30 days'
from queue.workers w cross join lateral json_array_elements(w.quarantine_details::json) d
on conflict do nothing;

-- Stretches of time in which workers asked for work in a task queue, with gaps of at most some minutes. The last one of a queue grows while they go on.
create table queue.polls (
  task_queue_id text collate "C" not null,
  began timestamptz not null,
  ended timestamptz not null,
  primary key (task_queue_id, began)
) with (fillfactor = 70);
create index polls_began on queue.polls (began);
