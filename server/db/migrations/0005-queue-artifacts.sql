-- Artifacts, and what is known of workers and task queues.

-- `details` is what the storage type needs, JSON. An artifact of type object is not present until its upload is finished.
create table queue.artifacts (
  task_id text collate "C" not null,
  run_id int not null,
  name text collate platform.protocol_order not null,
  storage_type text collate "C" not null,
  content_type text not null,
  content_length bigint,
  details text not null,
  present boolean not null,
  expires timestamptz not null,
  primary key (task_id, run_id, name)
);
create index artifacts_expires on queue.artifacts (expires);

-- `recent_tasks` holds the last 20 runs as taskId/runId, the newest last; `quarantine_details` who changed the quarantine, JSON.
create table queue.workers (
  task_queue_id text collate "C" not null,
  worker_group text collate platform.protocol_order not null,
  worker_id text collate platform.protocol_order not null,
  expires timestamptz not null,
  first_claim timestamptz not null,
  last_date_active timestamptz not null,
  quarantine_until timestamptz not null,
  quarantine_details text not null default '[]',
  recent_tasks text[] not null default '{}',
  primary key (task_queue_id, worker_group, worker_id)
) with (fillfactor = 70);
create index workers_expires on queue.workers (expires);
create index workers_quarantine_until on queue.workers (quarantine_until);

create table queue.task_queues (
  task_queue_id text collate platform.protocol_order primary key,
  provisioner_id text collate platform.protocol_order not null,
  expires timestamptz not null,
  last_date_active timestamptz not null
) with (fillfactor = 70);
create index task_queues_provisioner on queue.task_queues (provisioner_id, task_queue_id);
create index task_queues_expires on queue.task_queues (expires);
