/** One-time links and sessions of browsers. Tokens are stored as hashes and credentials encrypted: who reads the database cannot sign in with it. */
import type { Query } from '../../db/sql.ts';

export interface LinkRow {
  readonly tokenHash: string;
  /** Encrypted. */
  readonly credentials: string;
  readonly credentialsExpire: Date;
  readonly expires: Date;
}

export const insertLink = async (db: Query, link: LinkRow): Promise<void> => {
  await db`
    insert into login.links (token_hash, credentials, credentials_expire, expires)
    values (${link.tokenHash}, ${link.credentials}, ${link.credentialsExpire}, ${link.expires})`;
};

/** Takes a link, so that nobody takes it again; undefined when it is unknown or used. */
export const takeLink = async (db: Query, tokenHash: string): Promise<LinkRow | undefined> => {
  const [row] = await db<LinkRow>`
    delete from login.links where token_hash = ${tokenHash} returning token_hash, credentials, credentials_expire, expires`;
  return row;
};

export interface SessionRow {
  readonly idHash: string;
  /** Encrypted. */
  readonly credentials: string;
  readonly expires: Date;
}

export const insertSession = async (db: Query, session: SessionRow): Promise<void> => {
  await db`
    insert into login.sessions (id_hash, credentials, expires) values (${session.idHash}, ${session.credentials}, ${session.expires})`;
};

export const getSession = async (db: Query, idHash: string, now: Date): Promise<SessionRow | undefined> => {
  const [row] = await db<SessionRow>`
    select id_hash, credentials, expires from login.sessions where id_hash = ${idHash} and expires > ${now}`;
  return row;
};

export const deleteSession = async (db: Query, idHash: string): Promise<void> => {
  await db`delete from login.sessions where id_hash = ${idHash}`;
};

/** Removes up to `limit` links and as many sessions that are over; returns the larger count. */
export const deleteExpired = async (db: Query, now: Date, limit: number): Promise<number> => {
  const links = await db`
    delete from login.links where token_hash in (select token_hash from login.links where expires <= ${now} order by expires limit ${limit}) returning 1`;
  const sessions = await db`
    delete from login.sessions where id_hash in (select id_hash from login.sessions where expires <= ${now} order by expires limit ${limit}) returning 1`;
  return Math.max(links.length, sessions.length);
};
