-- People who sign in: one-time links, and the sessions of browsers. Tokens and session ids are kept as SHA-256, credentials under the keyring.
create schema login;

create table login.links (
  token_hash text collate "C" primary key,
  credentials text not null,
  credentials_expire timestamptz not null,
  expires timestamptz not null
);
create index links_expires on login.links (expires);

create table login.sessions (
  id_hash text collate "C" primary key,
  credentials text not null,
  expires timestamptz not null
);
create index sessions_expires on login.sessions (expires);
