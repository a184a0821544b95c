/** Mail that waits to be sent. */
import type { Query, Tx } from '../../db/sql.ts';

export interface NewMail {
  readonly address: string;
  readonly subject: string;
  readonly content: string;
}
export interface Mail extends NewMail {
  readonly id: number;
  readonly attempts: number;
}

export const insertMails = async (tx: Tx, mails: readonly NewMail[], now: Date): Promise<void> => {
  await tx`
    insert into hooks.mails (address, subject, content, not_before)
    select address, subject, content, ${now}
    from unnest(${mails.map(mail => mail.address)}::text[], ${mails.map(mail => mail.subject)}::text[], ${mails.map(mail => mail.content)}::text[])
      as m (address, subject, content)`;
};

/** Takes mail that is due; unless it is deleted it is due again after two minutes, then four, and so on. Index on `not_before`. */
export const takeMails = async (db: Query, now: Date, limit: number): Promise<Mail[]> => db<Mail>`
  update hooks.mails set not_before = ${now}::timestamptz + interval '2 minutes' * (2 ^ attempts), attempts = attempts + 1
  where id in (select id from hooks.mails where not_before <= ${now} order by not_before limit ${limit} for update skip locked)
  returning id, address, subject, content, attempts`;

export const deleteMail = async (db: Query, id: number): Promise<void> => {
  await db`delete from hooks.mails where id = ${id}`;
};
