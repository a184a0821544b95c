-- The index (entries, their namespaces, what ran at each path) and the requests to purge caches.

create schema index;

-- One row per path that leads to a task: `a.b.c` is the name `c` in the namespace `a.b`; the namespace of the root is empty. Rows past their expiry count as
-- absent. `inserted` decides between equal ranks: when the run was resolved, or when somebody inserted it.
create table index.tasks (
  namespace text collate "C" not null,
  name text collate platform.protocol_order not null,
  rank int not null,
  task_id text collate "C" not null,
  data text not null, -- a JSON object
  expires timestamptz not null,
  inserted timestamptz not null,
  primary key (namespace, name)
);
create index tasks_expires on index.tasks (expires);

-- Each namespace that an entry was ever in, with all above it, until the midnight after the last expiry of an entry that was stored in it.
create table index.namespaces (
  parent text collate "C" not null,
  name text collate platform.protocol_order not null,
  expires timestamptz not null,
  primary key (parent, name)
);
create index namespaces_expires on index.namespaces (expires);

-- Runs that ended, of tasks with a route to the path; read from the newest, which is the key backwards.
create table index.history (
  path text collate "C" not null,
  resolved timestamptz not null,
  task_id text collate "C" not null,
  run_id int not null,
  task_group_id text collate "C" not null,
  state text not null,
  reason text not null,
  scheduled timestamptz not null,
  started timestamptz,
  worker_group text,
  worker_id text,
  expires timestamptz not null,
  primary key (path, resolved, task_id, run_id)
);
create index history_expires on index.history (expires);

-- Completed runs that could not be indexed yet, because the queue did not say what the task is.
create table index.waiting (
  task_id text collate "C" not null,
  run_id int not null,
  resolved timestamptz not null,
  paths text not null, -- a JSON array
  primary key (task_id, run_id)
);

create schema purge_cache;

create table purge_cache.requests (
  worker_pool_id text collate platform.protocol_order not null,
  cache_name text collate platform.protocol_order not null,
  before timestamptz not null,
  expires timestamptz not null,
  primary key (worker_pool_id, cache_name)
);
create index requests_expires on purge_cache.requests (expires);
