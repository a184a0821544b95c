-- Clients and roles, and a log of their changes by which every process keeps what it remembers of them fresh.
create schema auth;

create table auth.clients (
  client_id text collate platform.protocol_order primary key,
  description text not null,
  -- encrypted under the platform's keyring
  access_token text not null,
  -- in the order in which they were given
  scopes text[] not null,
  expires timestamptz not null,
  disabled boolean not null,
  delete_on_expiration boolean not null,
  created timestamptz not null,
  last_modified timestamptz not null,
  last_date_used timestamptz not null,
  last_rotated timestamptz not null
);
create index clients_prefix on auth.clients (client_id collate "C");
create index clients_expiring on auth.clients (expires) where delete_on_expiration;

create table auth.roles (
  role_id text collate platform.protocol_order primary key,
  -- sorted in scope order
  scopes text[] not null,
  description text not null,
  created timestamptz not null,
  last_modified timestamptz not null
);

-- What changed at each version of `auth` in platform.versions, without gaps: the version's row is locked until the change commits.
create table auth.changes (
  version bigint primary key,
  kind text not null check (kind in ('client', 'role')),
  id text collate "C" not null,
  changed timestamptz not null
);
create index changes_changed on auth.changes (changed);

insert into platform.versions (name, version) values ('auth', 0);
