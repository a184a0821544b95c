/**
 * Settings are environment variables, declared beside their user with type, default and meaning, and read once at start. All mistakes are reported
 * together. Tests pass objects instead.
 */

export interface Setting<T = unknown> {
  readonly name: string;
  readonly meaning: string;
  readonly secret: boolean;
  readonly required: boolean;
  readonly fallback: T | undefined;
  /** Throws an Error that says what the value must be. */
  readonly parse: (text: string) => T;
}

export type Settings = Readonly<Record<string, Setting>>;
export type SettingValues<S extends Settings> = { readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never };

interface Choice<T> {
  /** Without a fallback the setting is required. */
  readonly fallback?: T;
}
type Maybe<T, O> = O extends { fallback: infer F } ? (F extends undefined ? T | undefined : T) : T;

const make = <T, const O extends Choice<T> | { fallback: undefined }>(
  name: string,
  meaning: string,
  options: O,
  parse: (text: string) => T,
  secret = false,
): Setting<Maybe<T, O>> => ({
  name,
  meaning,
  secret,
  required: !('fallback' in options),
  fallback: (options as Choice<T>).fallback as Maybe<T, O>,
  parse: parse as (text: string) => Maybe<T, O>,
});

const number = (text: string, min: number, max: number): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < min || value > max) {
    throw new Error(`must be a whole number from ${min} to ${max}`);
  }
  return value;
};

type Options<T> = Choice<T> | { fallback: undefined };

/** Text. */
export const text = <const O extends Options<string>>(name: string, meaning: string, options: O): Setting<Maybe<string, O>> =>
  make<string, O>(name, meaning, options, value => value);

/** A whole number. */
export const integer = <const O extends Options<number>>(
  name: string,
  meaning: string,
  options: O & { min?: number; max?: number },
): Setting<Maybe<number, O>> =>
  make<number, O>(name, meaning, options, value => number(value, options.min ?? 0, options.max ?? Number.MAX_SAFE_INTEGER));

/** `true` or `false`. */
export const flag = <const O extends Options<boolean>>(name: string, meaning: string, options: O): Setting<Maybe<boolean, O>> =>
  make<boolean, O>(name, meaning, options, value => {
    if (value !== 'true' && value !== 'false') {
      throw new Error('must be true or false');
    }
    return value === 'true';
  });

/** JSON; `check` throws when it is not what it should be. */
export const jsonSetting = <T>(name: string, meaning: string, options: { fallback?: T }, check: (value: unknown) => T): Setting<T> =>
  make<T, { fallback: T }>(name, meaning, options as { fallback: T }, value => {
    let parsed: unknown;
    try {
      parsed = JSON.parse(value);
    } catch (error) {
      // the rest of the message quotes the value, which may be secret
      const [place] = /\bat position \d+/.exec((error as Error).message) ?? [];
      throw new Error(`must be JSON${place === undefined ? '' : ` (the mistake is ${place})`}`, { cause: error });
    }
    return check(parsed);
  }) as Setting<T>;

/** Marks a setting whose value is never shown. */
export const secret = <T>(setting: Setting<T>): Setting<T> => ({ ...setting, secret: true });

/** Settings that cannot be used. The message lists every mistake, and no secret. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

type Environment = Readonly<Record<string, string | undefined>>;

const readGroup = (settings: Settings, environment: Environment, problems: Set<string>): Record<string, unknown> => {
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(settings)) {
    const given = environment[setting.name];
    if (given === undefined || given === '') {
      if (setting.required) {
        problems.add(`${setting.name} is not set: ${setting.meaning}`);
      }
      values[key] = setting.fallback;
      continue;
    }
    try {
      values[key] = setting.parse(given);
    } catch (error) {
      problems.add(`${setting.name}${setting.secret ? '' : `=${given}`} ${(error as Error).message} (${setting.meaning})`);
    }
  }
  return values;
};

/**
 * Reads several groups of settings, as of several services; throws one `SettingsError` that lists every mistake in any of them.
 *
 * @param check finds mistakes that no setting has by itself; told the values, of which those with mistakes are undefined
 */
export const readAllSettings = <const G extends readonly Settings[]>(
  groups: G,
  environment: Environment,
  check?: (values: { readonly [K in keyof G]: Partial<SettingValues<G[K]>> }) => readonly string[],
): { readonly [K in keyof G]: SettingValues<G[K]> } => {
  const found = new Set<string>();
  const values = groups.map(group => readGroup(group, environment, found)) as never;
  const problems = [...found, ...(check?.(values) ?? [])];
  if (problems.length > 0) {
    throw new SettingsError(
      `The configuration has ${problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`}:\n${problems.map(p => `  * ${p}`).join('\n')}`,
    );
  }
  return values;
};

/** Reads settings; throws one `SettingsError` that lists every mistake. */
export const readSettings = <S extends Settings>(settings: S, environment: Environment): SettingValues<S> =>
  readAllSettings([settings], environment)[0];
