-- Hooks: templates of tasks, when they fire, what is about to be fired, and what has become of it.

create schema hooks;

create table hooks.hooks (
  hook_group_id text collate platform.protocol_order not null,
  hook_id text collate platform.protocol_order not null,
  metadata text not null,       -- JSON, as all of the definition
  task text not null,
  schedule text not null,
  bindings text not null,
  trigger_schema text not null,
  trigger_token text not null,  -- encrypted
  next_fire timestamptz,        -- null without a schedule
  primary key (hook_group_id, hook_id)
);
create index hooks_next_fire on hooks.hooks (next_fire) where next_fire is not null;
create index hooks_trigger_token on hooks.hooks (trigger_token collate "C");

-- The same bindings by exchange: which hooks may want a message.
create table hooks.bindings (
  exchange text collate "C" not null,
  pattern text collate "C" not null,
  hook_group_id text collate platform.protocol_order not null,
  hook_id text collate platform.protocol_order not null,
  primary key (exchange, pattern, hook_group_id, hook_id),
  foreign key (hook_group_id, hook_id) references hooks.hooks on delete cascade
);
create index bindings_hook on hooks.bindings (hook_group_id, hook_id);

-- Tasks that are to be created: written in the transaction that claims a due time or takes a message, so that each is there once. A task keeps its id,
-- and from its first try on its definition, until the queue has given an answer: a repeat after a crash changes nothing.
-- Those of messages stay for a while after they are done, so that a message that is delivered again fires nothing.
create table hooks.fires (
  id bigint generated always as identity primary key,
  hook_group_id text collate platform.protocol_order not null,
  hook_id text collate platform.protocol_order not null,
  fired_by text collate "C" not null,
  event_id text collate "C",    -- of the message
  task_id text not null,        -- encrypted: whoever knew it could create the task first
  moment timestamptz not null,  -- `now` of the template: the scheduled time, or when the message came
  due timestamptz not null,     -- when it may begin; later than the moment when a hook is fired too often
  exchange text,                -- of the message, as the next two
  routing_key text,
  payload text,                 -- JSON
  task text,                    -- what the template made, JSON
  rendered timestamptz,         -- the time that the template was told for it
  attempts int not null default 0,
  not_before timestamptz not null,
  leased_until timestamptz,     -- somebody is at it
  done boolean not null default false,
  foreign key (hook_group_id, hook_id) references hooks.hooks on delete cascade
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create unique index fires_schedule on hooks.fires (hook_group_id, hook_id) where event_id is null;
create unique index fires_event on hooks.fires (hook_group_id, hook_id, event_id) where event_id is not null;
create index fires_rate on hooks.fires (hook_group_id, hook_id, due) where event_id is not null;
create index fires_waiting on hooks.fires (hook_group_id, hook_id, id) where event_id is not null and not done;
create index fires_open on hooks.fires (not_before, id) where not done;
create index fires_done on hooks.fires (due) where done;

create table hooks.last_fires (
  id bigint generated always as identity primary key,
  hook_group_id text collate platform.protocol_order not null,
  hook_id text collate platform.protocol_order not null,
  fired_by text collate "C" not null,
  task_id text collate "C" not null,
  task_create_time timestamptz not null,
  result text collate "C" not null,
  error text not null,
  foreign key (hook_group_id, hook_id) references hooks.hooks on delete cascade
);
create index last_fires_hook on hooks.last_fires (hook_group_id, hook_id, task_create_time, id);
create index last_fires_time on hooks.last_fires (task_create_time);

-- Mail to owners of hooks whose scheduled tasks could not be created.
create table hooks.mails (
  id bigint generated always as identity primary key,
  address text not null,
  subject text not null,
  content text not null,
  attempts int not null default 0,
  not_before timestamptz not null
);
create index mails_not_before on hooks.mails (not_before);

-- What hooks may know of tasks.
create view queue.task_states as select task_id, state from queue.tasks;
