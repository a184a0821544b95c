-- Objects and the bytes in the local folder, which the queue's artifacts of type s3 share with them.

-- What lies in the local folder under which name. A store is a name space (a bucket); bytes are files named by their SHA-256, so equal ones are kept once.
create table platform.blobs (
  store text collate "C" not null,
  key text collate "C" not null,
  digest text collate "C" not null,
  size_bytes bigint not null,
  content_type text not null,
  content_encoding text,
  sealed boolean not null default false, -- never replaced any more
  stored timestamptz not null,
  primary key (store, key)
);
create index blobs_digest on platform.blobs (digest);

-- Files that may have no name any more: written before a file is put in its place, and when a name is removed or replaced. Looked at after a while.
create table platform.blob_garbage (
  digest text collate "C" primary key,
  since timestamptz not null
);
create index blob_garbage_since on platform.blob_garbage (since);

create schema object;

-- upload_id and upload_expires are set while the upload is not finished, both null afterwards.
create table object.objects (
  name text collate "C" primary key,
  project_id text not null,
  backend_id text not null,
  upload_id text collate "C",
  upload_expires timestamptz,
  data text not null, -- the backend's own notes, JSON
  hashes text not null default '{}', -- algorithm to value, JSON
  expires timestamptz not null,
  check ((upload_id is null) = (upload_expires is null))
);
create unique index objects_upload_id on object.objects (upload_id) where upload_id is not null;
create index objects_expires on object.objects (expires);
create index objects_upload_expires on object.objects (upload_expires) where upload_expires is not null;
