-- Tasks that have run can wait for their dependencies again, when those are run again: they are held until then.
alter table queue.tasks add column held boolean not null default false;
