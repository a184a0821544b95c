/**
 * What this process remembers of clients and roles: all roles, compiled, and the clients that were used, decrypted. Every authentication reads it.
 *
 * It follows the log of changes (`changes.db.ts`): at once for changes made by this process, at a notification or by a loop for those of others, and
 * whoever asks when the last look is older than `MAX_AGE_MS` waits for one. So a revoked client or role is gone everywhere within that time, whether
 * or not notifications arrive.
 */
import type { Query } from '../../db/sql.ts';
import type { Keyring } from '../../platform/keyring.ts';
import type { Clock } from '../../platform/clock.ts';
import type { KnownClient } from './authenticator.ts';
import { allRoles, changesSince } from './changes.db.ts';
import { getClient } from './clients.db.ts';
import type { ClientRow } from './clients.db.ts';
import { compileRoles } from './expansion.ts';
import type { CompiledRoles } from './expansion.ts';
import type { RoleRow } from './roles.db.ts';

/** How old what is remembered may be when somebody asks. */
export const MAX_AGE_MS = 1_000;
/** Clients remembered at most; the one read first is forgotten first. */
const MAX_CLIENTS = 10_000;

export interface RememberedClient extends KnownClient {
  /** As last read or noted by this process. */
  lastDateUsed: Date;
}

/** Under which an access token is encrypted. */
export const tokenContext = (clientId: string): string => `auth.clients.access_token:${clientId}`;

export interface DirectoryOptions {
  readonly db: Query;
  readonly keyring: Keyring;
  readonly clock: Clock;
}

export class Directory {
  readonly #options: DirectoryOptions;
  readonly #clients = new Map<string, RememberedClient>();
  readonly #loading = new Map<string, Promise<RememberedClient | undefined>>();
  #roleRows = new Map<string, RoleRow>();
  #compiled: CompiledRoles = compileRoles([]);
  /** The version of which everything here is; undefined before the first look. */
  #version: number | undefined;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  /** Makes sure that what is remembered is recent; undefined when there is nothing to wait for. */
  refresh(): Promise<void> | undefined {
    const ageMs = this.#options.clock.nowMs() - this.#lookedMs;
    return ageMs >= 0 && ageMs < MAX_AGE_MS ? undefined : this.look();
  }

  /** For how long what is remembered may be used without another look, in milliseconds. */
  get freshForMs(): number {
    const ageMs = this.#options.clock.nowMs() - this.#lookedMs;
    return ageMs >= 0 ? Math.max(0, MAX_AGE_MS - ageMs) : 0;
  }

  /** Reads the log of changes now. Callers at the same time share one look. */
  look(): Promise<void> {
    this.#looking ??= this.#readChanges(this.#options.db).finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  /** For one who holds the lock on the version: brings everything to that version. */
  async catchUp(query: Query, version: number): Promise<void> {
    if (this.#version !== version) {
      await this.#readChanges(query);
    }
  }

  get roles(): CompiledRoles {
    return this.#compiled;
  }

  /** The roles compiled as if one of them were another, or gone. */
  rolesWith(roleId: string, role: RoleRow | undefined): CompiledRoles {
    return compileRoles(withRole(this.#roleRows, roleId, role).values());
  }

  /** The client if it is in memory. */
  cachedClient(clientId: string): RememberedClient | undefined {
    return this.#clients.get(clientId);
  }

  async findClient(clientId: string): Promise<RememberedClient | undefined> {
    const known = this.#clients.get(clientId);
    if (known) {
      return known;
    }
    const underWay = this.#loading.get(clientId);
    if (underWay) {
      return underWay;
    }
    const loading = this.#loadClient(clientId);
    this.#loading.set(clientId, loading);
    try {
      const client = await loading;
      // unless the client was changed meanwhile: then what was read may be the old one
      if (client && this.#loading.get(clientId) === loading) {
        this.#remember(client);
      }
      return client;
    } finally {
      if (this.#loading.get(clientId) === loading) {
        this.#loading.delete(clientId);
      }
    }
  }

  /** After a commit of this process that changed clients. */
  clientsChanged(clientIds: readonly string[], version: number): void {
    clientIds.forEach(clientId => this.#forget(clientId));
    this.#advance(version, clientIds.length);
  }

  /** After a commit of this process that changed a role; `compiled` is what `rolesWith` made of it. */
  roleChanged(roleId: string, role: RoleRow | undefined, compiled: CompiledRoles, version: number): void {
    if (this.#version === version - 1) {
      this.#roleRows = withRole(this.#roleRows, roleId, role);
      this.#compiled = compiled;
      this.#version = version;
    }
  }

  // A change of another process may lie between: then the next look reads both.
  #advance(version: number, count: number): void {
    if (this.#version === version - count) {
      this.#version = version;
    }
  }

  #remember(client: RememberedClient): void {
    if (this.#clients.size >= MAX_CLIENTS) {
      const [oldest] = this.#clients.keys();
      this.#clients.delete(oldest ?? '');
    }
    this.#clients.set(client.clientId, client);
  }

  #forget(clientId: string): void {
    this.#clients.delete(clientId);
    this.#loading.delete(clientId);
  }

  async #loadClient(clientId: string): Promise<RememberedClient | undefined> {
    const row = await getClient(this.#options.db, clientId);
    return row && this.#decrypted(row);
  }

  #decrypted({ clientId, accessToken, scopes, expires, disabled, lastDateUsed }: ClientRow): RememberedClient {
    return {
      clientId,
      accessToken: this.#options.keyring.decrypt(accessToken, tokenContext(clientId)),
      scopes,
      expires,
      disabled,
      lastDateUsed,
    };
  }

  async #readChanges(query: Query): Promise<void> {
    const lookedMs = this.#options.clock.nowMs();
    const since = this.#version;
    const found = since === undefined ? undefined : await changesSince(query, since);
    if (!found || since === undefined || found.current - since !== found.changes.length) {
      await this.#readAll(query);
    } else if (this.#version !== undefined && found.current > this.#version) {
      for (const { kind, id } of found.changes) {
        if (kind === 'client') {
          this.#forget(id);
        }
      }
      const changedRoles = found.changes.filter(change => change.kind === 'role');
      if (changedRoles.length > 0) {
        const rows = new Map(this.#roleRows);
        for (const { id, role } of changedRoles) {
          if (role) {
            rows.set(id, role);
          } else {
            rows.delete(id);
          }
        }
        this.#roleRows = rows;
        this.#compiled = compileRoles(rows.values());
      }
      this.#version = found.current;
    }
    this.#lookedMs = Math.max(this.#lookedMs, lookedMs);
  }

  async #readAll(query: Query): Promise<void> {
    const { current, roles } = await allRoles(query);
    if (this.#version === undefined || current > this.#version) {
      this.#clients.clear();
      this.#loading.clear();
      this.#roleRows = new Map(roles.map(role => [role.roleId, role]));
      this.#compiled = compileRoles(roles);
      this.#version = current;
    }
  }
}

const withRole = (rows: ReadonlyMap<string, RoleRow>, roleId: string, role: RoleRow | undefined): Map<string, RoleRow> => {
  const changed = new Map(rows);
  if (role) {
    changed.set(roleId, role);
  } else {
    changed.delete(roleId);
  }
  return changed;
};
