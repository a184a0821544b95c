-- What the migrations make: written by `npm run gen`, compared by a test, executed by nobody.

create schema auth;

create table auth.changes (
  version bigint not null,
  kind text not null,
  id text collate "C" not null,
  changed timestamp with time zone not null,
  constraint changes_kind_check CHECK ((kind = ANY (ARRAY['client'::text, 'role'::text]))),
  constraint changes_pkey PRIMARY KEY (version)
);

create table auth.clients (
  client_id text collate platform.protocol_order not null,
  description text not null,
  access_token text not null,
  scopes text[] not null,
  expires timestamp with time zone not null,
  disabled boolean not null,
  delete_on_expiration boolean not null,
  created timestamp with time zone not null,
  last_modified timestamp with time zone not null,
  last_date_used timestamp with time zone not null,
  last_rotated timestamp with time zone not null,
  constraint clients_pkey PRIMARY KEY (client_id)
);

create table auth.roles (
  role_id text collate platform.protocol_order not null,
  scopes text[] not null,
  description text not null,
  created timestamp with time zone not null,
  last_modified timestamp with time zone not null,
  constraint roles_pkey PRIMARY KEY (role_id)
);

CREATE INDEX changes_changed ON auth.changes USING btree (changed);

CREATE INDEX clients_expiring ON auth.clients USING btree (expires) WHERE delete_on_expiration;

CREATE INDEX clients_prefix ON auth.clients USING btree (client_id COLLATE "C");

create schema hooks;

create table hooks.bindings (
  exchange text collate "C" not null,
  pattern text collate "C" not null,
  hook_group_id text collate platform.protocol_order not null,
  hook_id text collate platform.protocol_order not null,
  constraint bindings_hook_group_id_hook_id_fkey FOREIGN KEY (hook_group_id, hook_id) REFERENCES hooks.hooks(hook_group_id, hook_id) ON DELETE CASCADE,
  constraint bindings_pkey PRIMARY KEY (exchange, pattern, hook_group_id, hook_id)
);

create table hooks.fires (
  id bigint generated always as identity not null,
  hook_group_id text collate platform.protocol_order not null,
  hook_id text collate platform.protocol_order not null,
  fired_by text collate "C" not null,
  event_id text collate "C",
  task_id text not null,
  moment timestamp with time zone not null,
  due timestamp with time zone not null,
  exchange text,
  routing_key text,
  payload text,
  task text,
  rendered timestamp with time zone,
  attempts integer default 0 not null,
  not_before timestamp with time zone not null,
  leased_until timestamp with time zone,
  done boolean default false not null,
  constraint fires_hook_group_id_hook_id_fkey FOREIGN KEY (hook_group_id, hook_id) REFERENCES hooks.hooks(hook_group_id, hook_id) ON DELETE CASCADE,
  constraint fires_pkey PRIMARY KEY (id)
) with (
  autovacuum_vacuum_cost_delay=0,
  autovacuum_vacuum_scale_factor=0,
  autovacuum_vacuum_threshold=5000
);

create table hooks.hooks (
  hook_group_id text collate platform.protocol_order not null,
  hook_id text collate platform.protocol_order not null,
  metadata text not null,
  task text not null,
  schedule text not null,
  bindings text not null,
  trigger_schema text not null,
  trigger_token text not null,
  next_fire timestamp with time zone,
  constraint hooks_pkey PRIMARY KEY (hook_group_id, hook_id)
);

create table hooks.last_fires (
  id bigint generated always as identity not null,
  hook_group_id text collate platform.protocol_order not null,
  hook_id text collate platform.protocol_order not null,
  fired_by text collate "C" not null,
  task_id text collate "C" not null,
  task_create_time timestamp with time zone not null,
  result text collate "C" not null,
  error text not null,
  constraint last_fires_hook_group_id_hook_id_fkey FOREIGN KEY (hook_group_id, hook_id) REFERENCES hooks.hooks(hook_group_id, hook_id) ON DELETE CASCADE,
  constraint last_fires_pkey PRIMARY KEY (id)
);

create table hooks.mails (
  id bigint generated always as identity not null,
  address text not null,
  subject text not null,
  content text not null,
  attempts integer default 0 not null,
  not_before timestamp with time zone not null,
  constraint mails_pkey PRIMARY KEY (id)
);

CREATE INDEX bindings_hook ON hooks.bindings USING btree (hook_group_id, hook_id);

CREATE INDEX fires_done ON hooks.fires USING btree (due) WHERE done;

CREATE UNIQUE INDEX fires_event ON hooks.fires USING btree (hook_group_id, hook_id, event_id) WHERE (event_id IS NOT NULL);

CREATE INDEX fires_open ON hooks.fires USING btree (not_before, id) WHERE (NOT done);

CREATE INDEX fires_rate ON hooks.fires USING btree (hook_group_id, hook_id, due) WHERE (event_id IS NOT NULL);

CREATE UNIQUE INDEX fires_schedule ON hooks.fires USING btree (hook_group_id, hook_id) WHERE (event_id IS NULL);

CREATE INDEX fires_waiting ON hooks.fires USING btree (hook_group_id, hook_id, id) WHERE ((event_id IS NOT NULL) AND (NOT done));

CREATE INDEX hooks_next_fire ON hooks.hooks USING btree (next_fire) WHERE (next_fire IS NOT NULL);

CREATE INDEX hooks_trigger_token ON hooks.hooks USING btree (trigger_token COLLATE "C");

CREATE INDEX last_fires_hook ON hooks.last_fires USING btree (hook_group_id, hook_id, task_create_time, id);

CREATE INDEX last_fires_time ON hooks.last_fires USING btree (task_create_time);

CREATE INDEX mails_not_before ON hooks.mails USING btree (not_before);

create schema index;

create table index.history (
  path text collate "C" not null,
  resolved timestamp with time zone not null,
  task_id text collate "C" not null,
  run_id integer not null,
  task_group_id text collate "C" not null,
  state text not null,
  reason text not null,
  scheduled timestamp with time zone not null,
  started timestamp with time zone,
  worker_group text,
  worker_id text,
  expires timestamp with time zone not null,
  constraint history_pkey PRIMARY KEY (path, resolved, task_id, run_id)
);

create table index.namespaces (
  parent text collate "C" not null,
  name text collate platform.protocol_order not null,
  expires timestamp with time zone not null,
  constraint namespaces_pkey PRIMARY KEY (parent, name)
);

create table index.tasks (
  namespace text collate "C" not null,
  name text collate platform.protocol_order not null,
  rank integer not null,
  task_id text collate "C" not null,
  data text not null,
  expires timestamp with time zone not null,
  inserted timestamp with time zone not null,
  constraint tasks_pkey PRIMARY KEY (namespace, name)
);

create table index.waiting (
  task_id text collate "C" not null,
  run_id integer not null,
  resolved timestamp with time zone not null,
  paths text not null,
  constraint waiting_pkey PRIMARY KEY (task_id, run_id)
);

CREATE INDEX history_expires ON index.history USING btree (expires);

CREATE INDEX namespaces_expires ON index.namespaces USING btree (expires);

CREATE INDEX tasks_expires ON index.tasks USING btree (expires);

create schema login;

create table login.links (
  token_hash text collate "C" not null,
  credentials text not null,
  credentials_expire timestamp with time zone not null,
  expires timestamp with time zone not null,
  constraint links_pkey PRIMARY KEY (token_hash)
);

create table login.sessions (
  id_hash text collate "C" not null,
  credentials text not null,
  expires timestamp with time zone not null,
  constraint sessions_pkey PRIMARY KEY (id_hash)
);

CREATE INDEX links_expires ON login.links USING btree (expires);

CREATE INDEX sessions_expires ON login.sessions USING btree (expires);

create schema notify;

create table notify.deliveries (
  id bigint generated always as identity not null,
  delivery_id text collate "C" not null,
  type text collate "C" not null,
  address text collate "C" not null,
  state text collate "C" not null,
  reason text,
  subject text,
  client_id text,
  event_id text collate "C",
  route text collate "C",
  task_id text collate "C",
  task_group_id text collate "C",
  cause text,
  content text,
  digest text collate "C",
  attempts integer default 0 not null,
  due timestamp with time zone,
  created timestamp with time zone not null,
  resolved timestamp with time zone,
  constraint deliveries_check CHECK (((state = 'waiting'::text) = (due IS NOT NULL))),
  constraint deliveries_pkey PRIMARY KEY (id),
  constraint deliveries_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'sent'::text, 'skipped'::text, 'failed'::text])))
);

create table notify.denylist (
  type text collate "C" not null,
  address text collate "C" not null,
  constraint denylist_pkey PRIMARY KEY (type, address)
);

create table notify.group_routes (
  task_group_id text collate "C" not null,
  route text collate "C" not null,
  outcome text,
  constraint group_routes_pkey PRIMARY KEY (task_group_id, route),
  constraint group_routes_task_group_id_fkey FOREIGN KEY (task_group_id) REFERENCES notify.groups(task_group_id) ON DELETE CASCADE
);

create table notify.groups (
  task_group_id text collate "C" not null,
  watched boolean default true not null,
  due timestamp with time zone not null,
  quiet_since timestamp with time zone,
  expires timestamp with time zone not null,
  constraint groups_pkey PRIMARY KEY (task_group_id)
);

CREATE INDEX deliveries_address ON notify.deliveries USING btree (type, md5(address), id);

CREATE INDEX deliveries_admitted ON notify.deliveries USING btree (type, md5(address), created) WHERE ((digest IS NOT NULL) AND (state = ANY (ARRAY['waiting'::text, 'sent'::text])));

CREATE INDEX deliveries_created ON notify.deliveries USING btree (created);

CREATE INDEX deliveries_digest ON notify.deliveries USING btree (digest, created) WHERE (digest IS NOT NULL);

CREATE INDEX deliveries_due ON notify.deliveries USING btree (type, due) WHERE (state = 'waiting'::text);

CREATE UNIQUE INDEX deliveries_event ON notify.deliveries USING btree (event_id, route) WHERE (event_id IS NOT NULL);

CREATE INDEX deliveries_group ON notify.deliveries USING btree (task_group_id, id) WHERE (task_group_id IS NOT NULL);

CREATE INDEX deliveries_task ON notify.deliveries USING btree (task_id, id) WHERE (task_id IS NOT NULL);

CREATE INDEX groups_due ON notify.groups USING btree (due) WHERE watched;

CREATE INDEX groups_expires ON notify.groups USING btree (expires);

create schema object;

create table object.copies (
  mirror text collate "C" not null,
  store text collate "C" not null,
  key text collate "C" not null,
  state text collate "C" not null,
  attempt text collate "C",
  due timestamp with time zone not null,
  failures integer default 0 not null,
  size_bytes bigint default 0 not null,
  source_etag text,
  checked timestamp with time zone not null,
  used timestamp with time zone not null,
  expires timestamp with time zone not null,
  constraint copies_pkey PRIMARY KEY (mirror, store, key),
  constraint copies_state_check CHECK ((state = ANY (ARRAY['wanted'::text, 'ready'::text, 'refused'::text, 'removing'::text])))
);

create table object.objects (
  name text collate "C" not null,
  project_id text not null,
  backend_id text not null,
  upload_id text collate "C",
  upload_expires timestamp with time zone,
  data text not null,
  hashes text default '{}'::text not null,
  expires timestamp with time zone not null,
  removing timestamp with time zone,
  constraint objects_check CHECK (((upload_id IS NULL) = (upload_expires IS NULL))),
  constraint objects_pkey PRIMARY KEY (name)
);

CREATE INDEX copies_due ON object.copies USING btree (due) WHERE (state = ANY (ARRAY['wanted'::text, 'removing'::text]));

CREATE INDEX copies_expires ON object.copies USING btree (expires);

CREATE INDEX copies_used ON object.copies USING btree (mirror, used) WHERE (state = ANY (ARRAY['ready'::text, 'refused'::text]));

CREATE INDEX objects_expires ON object.objects USING btree (expires);

CREATE INDEX objects_upload_expires ON object.objects USING btree (upload_expires) WHERE (upload_expires IS NOT NULL);

CREATE UNIQUE INDEX objects_upload_id ON object.objects USING btree (upload_id) WHERE (upload_id IS NOT NULL);

create schema platform;

create collation platform.protocol_order (provider = icu, locale = 'en-US-u-ka-shifted');

create table platform.audit (
  id bigint generated always as identity not null,
  entity_type text collate "C" not null,
  entity_id text collate "C" not null,
  client_id text collate "C" not null,
  action text not null,
  created timestamp with time zone not null,
  constraint audit_pkey PRIMARY KEY (id)
);

create table platform.blob_garbage (
  digest text collate "C" not null,
  since timestamp with time zone not null,
  constraint blob_garbage_pkey PRIMARY KEY (digest)
);

create table platform.blobs (
  store text collate "C" not null,
  key text collate "C" not null,
  digest text collate "C" not null,
  size_bytes bigint not null,
  content_type text not null,
  content_encoding text,
  sealed boolean default false not null,
  stored timestamp with time zone not null,
  constraint blobs_pkey PRIMARY KEY (store, key)
);

create table platform.dead_letters (
  id bigint generated always as identity not null,
  subscription text collate "C" not null,
  event_id text not null,
  event text not null,
  error text not null,
  at timestamp with time zone not null,
  constraint dead_letters_pkey PRIMARY KEY (id)
);

create table platform.deliveries (
  subscription text collate "C" not null,
  seq bigint generated always as identity not null,
  event_id text not null,
  attempts integer default 0 not null,
  event text not null,
  retry_at timestamp with time zone,
  constraint deliveries_pkey PRIMARY KEY (subscription, seq),
  constraint deliveries_subscription_fkey FOREIGN KEY (subscription) REFERENCES platform.subscriptions(name) ON DELETE CASCADE
) with (
  autovacuum_vacuum_cost_delay=0,
  autovacuum_vacuum_scale_factor=0,
  autovacuum_vacuum_threshold=5000
);

create table platform.event_log (
  seq bigint not null,
  outbox_id bigint not null,
  written timestamp with time zone not null,
  msg text not null,
  constraint event_log_pkey PRIMARY KEY (seq)
) with (
  autovacuum_vacuum_cost_delay=0,
  autovacuum_vacuum_insert_threshold=-1,
  autovacuum_vacuum_scale_factor=0,
  autovacuum_vacuum_threshold=20000
);

create table platform.handled (
  subscription text collate "C" not null,
  event_id text collate "C" not null,
  at timestamp with time zone not null,
  constraint handled_pkey PRIMARY KEY (subscription, event_id)
) with (
  autovacuum_vacuum_cost_delay=0,
  autovacuum_vacuum_scale_factor=0,
  autovacuum_vacuum_threshold=5000
);

create table platform.migrations (
  number integer not null,
  name text not null,
  constraint migrations_pkey PRIMARY KEY (number)
);

create table platform.outbox (
  id bigint generated always as identity not null,
  msg text not null,
  constraint outbox_pkey PRIMARY KEY (id)
) with (
  autovacuum_vacuum_cost_delay=0,
  autovacuum_vacuum_scale_factor=0,
  autovacuum_vacuum_threshold=5000
);

create table platform.subscriptions (
  name text collate "C" not null,
  bindings text not null,
  seen timestamp with time zone,
  bound text default '[]'::text not null,
  settled boolean default false not null,
  refused text default '[]'::text not null,
  constraint subscriptions_pkey PRIMARY KEY (name)
);

create table platform.versions (
  name text collate "C" not null,
  version bigint not null,
  constraint versions_pkey PRIMARY KEY (name)
);

CREATE INDEX audit_client ON platform.audit USING btree (client_id, id);

CREATE INDEX audit_created ON platform.audit USING btree (created);

CREATE INDEX audit_entity ON platform.audit USING btree (entity_type, entity_id, id);

CREATE INDEX blob_garbage_since ON platform.blob_garbage USING btree (since);

CREATE INDEX blobs_digest ON platform.blobs USING btree (digest);

CREATE INDEX dead_letters_at ON platform.dead_letters USING btree (at);

CREATE INDEX handled_at ON platform.handled USING btree (at);

create schema pulse;

create table pulse.long_queues (
  queue text collate "C" not null,
  namespace text collate "C" not null,
  state text not null,
  messages bigint not null,
  told boolean not null,
  constraint long_queues_namespace_fkey FOREIGN KEY (namespace) REFERENCES pulse.namespaces(namespace) ON DELETE CASCADE,
  constraint long_queues_pkey PRIMARY KEY (queue),
  constraint long_queues_state_check CHECK ((state = ANY (ARRAY['long'::text, 'recovered'::text, 'deleted'::text])))
);

create table pulse.namespaces (
  namespace text collate "C" not null,
  contact text,
  created timestamp with time zone not null,
  expires timestamp with time zone not null,
  password_1 text not null,
  password_2 text not null,
  active smallint not null,
  next_active smallint not null,
  applied boolean not null,
  next_rotation timestamp with time zone not null,
  removing boolean default false not null,
  constraint namespaces_active_check CHECK ((active = ANY (ARRAY[1, 2]))),
  constraint namespaces_next_active_check CHECK ((next_active = ANY (ARRAY[1, 2]))),
  constraint namespaces_pkey PRIMARY KEY (namespace)
);

CREATE INDEX long_queues_untold ON pulse.long_queues USING btree (queue) WHERE (NOT told);

CREATE INDEX namespaces_expires ON pulse.namespaces USING btree (expires);

CREATE INDEX namespaces_next_rotation ON pulse.namespaces USING btree (next_rotation);

CREATE INDEX namespaces_not_applied ON pulse.namespaces USING btree (namespace) WHERE (NOT applied);

create schema purge_cache;

create table purge_cache.requests (
  worker_pool_id text collate platform.protocol_order not null,
  cache_name text collate platform.protocol_order not null,
  before timestamp with time zone not null,
  expires timestamp with time zone not null,
  constraint requests_pkey PRIMARY KEY (worker_pool_id, cache_name)
);

CREATE INDEX requests_expires ON purge_cache.requests USING btree (expires);

create schema queue;

create table queue.artifacts (
  task_id text collate "C" not null,
  run_id integer not null,
  name text collate platform.protocol_order not null,
  storage_type text collate "C" not null,
  content_type text not null,
  content_length bigint,
  details text not null,
  present boolean not null,
  expires timestamp with time zone not null,
  constraint artifacts_pkey PRIMARY KEY (task_id, run_id, name)
);

create table queue.claims (
  taken_until timestamp with time zone not null,
  task_id text collate "C" not null,
  run_id smallint not null,
  task_queue_id text collate "C" not null,
  worker_group text collate "C" not null,
  worker_id text collate "C" not null,
  claimed timestamp with time zone not null,
  answered boolean default false not null,
  constraint claims_pkey PRIMARY KEY (taken_until, task_id, run_id)
) with (
  autovacuum_vacuum_cost_delay=0,
  autovacuum_vacuum_scale_factor=0,
  autovacuum_vacuum_threshold=5000,
  fillfactor=80
);

create table queue.deps (
  required text collate "C" not null,
  dependent text collate platform.protocol_order not null,
  any_outcome boolean not null,
  satisfied boolean not null,
  expires timestamp with time zone not null,
  constraint deps_pkey PRIMARY KEY (required, dependent)
) with (
  fillfactor=80
);

create table queue.fanouts (
  task_id text collate "C" not null,
  completed boolean not null,
  constraint fanouts_pkey PRIMARY KEY (task_id)
);

create table queue.groups (
  task_group_id text collate "C" not null,
  scheduler_id text collate "C" not null,
  expires timestamp with time zone not null,
  sealed timestamp with time zone,
  unresolved integer not null,
  constraint groups_open_to_scheduler CHECK ((unresolved >= 0)),
  constraint groups_pkey PRIMARY KEY (task_group_id)
) with (
  fillfactor=30
);

create table queue.pending (
  task_queue_id text collate "C" not null,
  priority smallint not null,
  seq bigint not null,
  task_id text collate "C" not null,
  run_id smallint not null,
  deadline timestamp with time zone not null,
  inserted timestamp with time zone not null,
  constraint pending_pkey PRIMARY KEY (task_queue_id, priority, seq)
) with (
  autovacuum_vacuum_cost_delay=0,
  autovacuum_vacuum_scale_factor=0,
  autovacuum_vacuum_threshold=5000
);

create table queue.polls (
  task_queue_id text collate "C" not null,
  began timestamp with time zone not null,
  ended timestamp with time zone not null,
  constraint polls_pkey PRIMARY KEY (task_queue_id, began)
) with (
  fillfactor=70
);

create table queue.progress (
  name text collate "C" not null,
  at timestamp with time zone not null,
  constraint progress_pkey PRIMARY KEY (name)
);

create table queue.quarantines (
  task_queue_id text collate "C" not null,
  worker_group text collate "C" not null,
  worker_id text collate "C" not null,
  changed timestamp with time zone not null,
  quarantine_until timestamp with time zone not null,
  keep_until timestamp with time zone not null,
  constraint quarantines_pkey PRIMARY KEY (task_queue_id, worker_group, worker_id, changed)
);

create table queue.task_changes (
  task_id text collate "C" not null,
  seq bigint generated always as identity not null,
  at timestamp with time zone not null,
  kind text collate "C" not null,
  of_group boolean not null,
  client_id text not null,
  old_priority smallint,
  new_priority smallint,
  constraint task_changes_pkey PRIMARY KEY (task_id, seq)
);

create table queue.task_queues (
  task_queue_id text collate platform.protocol_order not null,
  provisioner_id text collate platform.protocol_order not null,
  expires timestamp with time zone not null,
  last_date_active timestamp with time zone not null,
  constraint task_queues_pkey PRIMARY KEY (task_queue_id)
) with (
  fillfactor=70
);

create table queue.tasks (
  task_id text collate "C" not null,
  task_group_id text collate "C" not null,
  task_queue_id text collate "C" not null,
  scheduler_id text collate "C" not null,
  project_id text collate "C" not null,
  priority smallint not null,
  retries smallint not null,
  retries_left smallint not null,
  state text collate "C" not null,
  run_id smallint not null,
  unmet integer not null,
  times_resolved integer default 0 not null,
  claimed_directly boolean default false not null,
  pending_seq bigint,
  taken_until timestamp with time zone,
  worker_group text collate "C",
  worker_id text collate "C",
  deadline timestamp with time zone not null,
  expires timestamp with time zone not null,
  head text not null,
  run text default ''::text not null,
  past text,
  tags text not null,
  cc text not null,
  scopes text not null,
  definition text not null,
  held boolean default false not null,
  constraint tasks_pkey PRIMARY KEY (task_id)
) with (
  fillfactor=50
);

create table queue.workers (
  task_queue_id text collate "C" not null,
  worker_group text collate platform.protocol_order not null,
  worker_id text collate platform.protocol_order not null,
  expires timestamp with time zone not null,
  first_claim timestamp with time zone not null,
  last_date_active timestamp with time zone not null,
  quarantine_until timestamp with time zone not null,
  quarantine_details text default '[]'::text not null,
  recent_tasks text[] default '{}'::text[] not null,
  constraint workers_pkey PRIMARY KEY (task_queue_id, worker_group, worker_id)
) with (
  fillfactor=70
);

CREATE INDEX artifacts_expires ON queue.artifacts USING btree (expires);

CREATE INDEX claims_queue ON queue.claims USING btree (task_queue_id, claimed, task_id);

CREATE INDEX deps_expires ON queue.deps USING btree (expires);

CREATE INDEX groups_expires ON queue.groups USING btree (expires);

CREATE INDEX polls_began ON queue.polls USING btree (began);

CREATE INDEX quarantines_keep_until ON queue.quarantines USING btree (keep_until);

CREATE INDEX task_changes_at ON queue.task_changes USING btree (at);

CREATE INDEX task_queues_expires ON queue.task_queues USING btree (expires);

CREATE INDEX task_queues_provisioner ON queue.task_queues USING btree (provisioner_id, task_queue_id);

CREATE INDEX tasks_deadline ON queue.tasks USING btree (deadline, task_id);

CREATE INDEX tasks_expires ON queue.tasks USING btree (expires);

CREATE INDEX tasks_group ON queue.tasks USING btree (task_group_id, task_id COLLATE platform.protocol_order);

CREATE INDEX workers_expires ON queue.workers USING btree (expires);

CREATE INDEX workers_quarantine_until ON queue.workers USING btree (quarantine_until);

create view queue.group_progress as
 SELECT task_group_id,
    unresolved,
    (sealed IS NOT NULL) AS sealed,
    (( SELECT count(*) AS count
           FROM queue.tasks t
          WHERE ((t.task_group_id = g.task_group_id) AND (t.state = ANY (ARRAY['pending'::text, 'running'::text])))))::integer AS active
   FROM queue.groups g;

create view queue.task_states as
 SELECT task_id,
    state
   FROM queue.tasks;

create schema secrets;

create table secrets.secrets (
  name text collate platform.protocol_order not null,
  encrypted text not null,
  expires timestamp with time zone not null,
  constraint secrets_pkey PRIMARY KEY (name)
);

CREATE INDEX secrets_expires ON secrets.secrets USING btree (expires);
