-- Objects whose bytes are being removed, and copies of objects and artifacts near those who read them.

-- When the removal was last tried. Set before the bytes go, so that nobody reads or finishes what is half gone.
alter table object.objects add column removing timestamptz;

-- What a mirror has, is to have, or will not have. A store and a key are where the original is.
create table object.copies (
  mirror text collate "C" not null,
  store text collate "C" not null,
  key text collate "C" not null,
  state text collate "C" not null check (state in ('wanted', 'ready', 'refused', 'removing')),
  attempt text collate "C", -- who is making it
  due timestamptz not null, -- wanted, removing: not tried before; refused: not asked for again before
  failures int not null default 0,
  size_bytes bigint not null default 0,
  source_etag text, -- which bytes of the original it has
  checked timestamptz not null, -- when it was last seen to be there
  used timestamptz not null,
  expires timestamptz not null, -- when the original does
  primary key (mirror, store, key)
);
create index copies_due on object.copies (due) where state in ('wanted', 'removing');
create index copies_used on object.copies (mirror, used) where state in ('ready', 'refused');
create index copies_expires on object.copies (expires);
