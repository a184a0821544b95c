-- Encrypted secrets; where not to send notifications; every notification and what became of it; groups that somebody wants to hear of.
create schema secrets;

create table secrets.secrets (
  name text collate platform.protocol_order primary key,
  encrypted text not null, -- under the platform's keyring
  expires timestamptz not null
);
create index secrets_expires on secrets.secrets (expires);

create schema notify;

create table notify.denylist (
  type text collate "C" not null,
  address text collate "C" not null,
  primary key (type, address)
);

-- One message to one address. `content` (JSON, the message itself) and `cause` (JSON, what it is to be made from) are kept only until the state is final.
create table notify.deliveries (
  id bigint generated always as identity primary key,
  delivery_id text collate "C" not null,
  type text collate "C" not null,
  address text collate "C" not null,
  state text collate "C" not null check (state in ('waiting', 'sent', 'skipped', 'failed')),
  reason text,
  subject text,
  client_id text,
  event_id text collate "C", -- of the event whose task has the route
  route text collate "C",
  task_id text collate "C",
  task_group_id text collate "C",
  cause text,
  content text,
  digest text collate "C", -- of what makes two messages the same
  attempts int not null default 0,
  due timestamptz, -- when to try next; a process that has taken it moves it ahead
  created timestamptz not null,
  resolved timestamptz,
  check ((state = 'waiting') = (due is not null))
);
create unique index deliveries_event on notify.deliveries (event_id, route) where event_id is not null;
create index deliveries_due on notify.deliveries (type, due) where state = 'waiting';
create index deliveries_address on notify.deliveries (type, md5(address), id); -- addresses can be longer than an index entry
create index deliveries_admitted on notify.deliveries (type, md5(address), created) where digest is not null and state in ('waiting', 'sent');
create index deliveries_task on notify.deliveries (task_id, id) where task_id is not null;
create index deliveries_group on notify.deliveries (task_group_id, id) where task_group_id is not null;
create index deliveries_digest on notify.deliveries (digest, created) where digest is not null;
create index deliveries_created on notify.deliveries (created);

-- Groups with a task whose routes ask for a message about the whole group.
create table notify.groups (
  task_group_id text collate "C" primary key,
  watched boolean not null default true, -- until it was announced; again when something happens to such a task
  due timestamptz not null, -- when to look again
  quiet_since timestamptz, -- since when it is seen resolved
  expires timestamptz not null
);
create index groups_due on notify.groups (due) where watched;
create index groups_expires on notify.groups (expires);

create table notify.group_routes (
  task_group_id text collate "C" not null references notify.groups on delete cascade,
  route text collate "C" not null,
  outcome text, -- digest of the outcome that was announced last
  primary key (task_group_id, route)
);

-- How far groups have come, for those who wait for their end.
create view queue.group_progress as
  select g.task_group_id, g.unresolved, g.sealed is not null as sealed,
    (select count(*) from queue.tasks t where t.task_group_id = g.task_group_id and t.state in ('pending', 'running'))::int as active
  from queue.groups g;
