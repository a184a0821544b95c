-- The event bus with several processes and with a message broker: changes of subscriptions, repeats, failures, and subscriptions nobody serves any more.

-- Raised by every change of platform.subscriptions; the relay compares it in its transaction, so that no event misses a change committed before it.
insert into platform.versions (name, version) values ('subscriptions', 0);

alter table platform.subscriptions
  -- when a process that serves it said so last
  add column seen timestamptz,
  -- the bindings that the broker's queue may have; it has exactly these, without the refused ones, once they are settled
  add column bound text not null default '[]',
  add column settled boolean not null default false,
  -- bindings that the broker refused, and why
  add column refused text not null default '[]';

-- The pause after a failure holds for every process.
alter table platform.deliveries add column retry_at timestamptz;

-- Events from the broker that were handled, in the transaction of their effect: a repeat within the time that rows stay here changes nothing.
create table platform.handled (
  subscription text collate "C" not null,
  event_id text collate "C" not null,
  at timestamptz not null,
  primary key (subscription, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index handled_at on platform.handled (at);

-- Events given up, for an operator to look at.
create table platform.dead_letters (
  id bigint generated always as identity primary key,
  subscription text collate "C" not null,
  event_id text not null,
  event text not null,
  error text not null,
  at timestamptz not null
);
create index dead_letters_at on platform.dead_letters (at);
