-- Namespaces on the message broker, and the queues in them that have grown too long.
create schema pulse;

-- Two accounts each, `<namespace>-1` and `<namespace>-2`; `active` is given out. The broker has these passwords once `applied`; a row is changed first
-- and the broker after it, so that whoever is interrupted is followed by somebody who knows what was meant.
create table pulse.namespaces (
  namespace text collate "C" primary key,
  contact text,
  created timestamptz not null,
  expires timestamptz not null,
  password_1 text not null, -- encrypted, like the other
  password_2 text not null,
  active smallint not null check (active in (1, 2)),
  next_active smallint not null check (next_active in (1, 2)), -- once applied
  applied boolean not null,
  next_rotation timestamptz not null,
  removing boolean not null default false
);
create index namespaces_expires on pulse.namespaces (expires);
create index namespaces_next_rotation on pulse.namespaces (next_rotation);
create index namespaces_not_applied on pulse.namespaces (namespace) where not applied;

create table pulse.long_queues (
  queue text collate "C" primary key,
  namespace text collate "C" not null references pulse.namespaces on delete cascade,
  state text not null check (state in ('long', 'recovered', 'deleted')),
  messages bigint not null,
  told boolean not null -- whether the contact knows of the state
);
create index long_queues_untold on pulse.long_queues (queue) where not told;
