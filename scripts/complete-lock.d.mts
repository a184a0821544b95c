export interface LockEntry {
  readonly version: string;
  readonly optional: true;
  readonly dev?: true;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
}
export function platformOf(name: string): { os?: string[]; cpu?: string[]; libc?: string[] };
export function missingEntries(lock: { packages: Record<string, object> }): Record<string, LockEntry>;
