-- What every service shares: the order in which clients see ids, the outbox of events, durable subscriptions, audit history, version counters.

-- The protocol's order of ids (0 < a < A < b < B, punctuation ignored at first): any Postgres orders alike.
create collation platform.protocol_order (provider = icu, locale = 'en-US-u-ka-shifted');

-- One row per transaction; msg is the events as JSON objects joined by commas. The relay delivers, then deletes.
create table platform.outbox (
  id bigint generated always as identity primary key,
  msg text not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

-- Durable subscriptions of the bus on Postgres, and what waits for each: rows per subscription, never a cursor (a cursor would miss late commits).
create table platform.subscriptions (
  name text collate "C" primary key,
  bindings text not null
);
create table platform.deliveries (
  subscription text collate "C" not null references platform.subscriptions (name) on delete cascade,
  seq bigint generated always as identity,
  event_id text not null,
  attempts int not null default 0,
  event text not null,
  primary key (subscription, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

-- Who changed what. Written by any service in its own transaction.
create table platform.audit (
  id bigint generated always as identity primary key,
  entity_type text collate "C" not null,
  entity_id text collate "C" not null,
  client_id text collate "C" not null,
  action text not null,
  created timestamptz not null
);
create index audit_entity on platform.audit (entity_type, entity_id, id);
create index audit_client on platform.audit (client_id, id);
create index audit_created on platform.audit (created);

-- Counters that caches compare: raised in the transaction that changes what they stand for.
create table platform.versions (
  name text collate "C" primary key,
  version bigint not null
);
