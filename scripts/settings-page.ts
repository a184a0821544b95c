/** The operators' table of settings, from their declarations. */
import { busSettings } from '../server/platform/bus/open.ts';
import type { Setting, Settings } from '../server/platform/config.ts';
import { eventLogSettings } from '../server/platform/event-log.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

/** A default that is worth showing; undefined for objects and for nothing. */
const show = (fallback: unknown): string | undefined =>
  (typeof fallback === 'string' && fallback !== '') || typeof fallback === 'number' || typeof fallback === 'boolean'
    ? `\`${fallback}\``
    : undefined;

const describeDefault = ({ fallback, secret }: Setting): string => {
  if (secret || fallback === undefined) {
    return '–';
  }
  return show(fallback) ?? 'built in';
};

const row = (setting: Setting): string => {
  const required = setting.fallback === undefined && !('fallback' in setting) ? 'required' : describeDefault(setting);
  return `| \`${setting.name}\` | ${cell(setting.meaning)}${setting.secret ? ' (secret)' : ''} | ${required} |`;
};

interface WorkerSetting {
  readonly env: string;
  readonly meaning: string;
  readonly fallback?: unknown;
  readonly secret?: true;
}

const table = (name: string, rows: readonly string[]): string =>
  `## ${name}\n\n| Variable | Meaning | Default |\n|---|---|---|\n${rows.join('\n')}\n`;

interface Section {
  readonly name: string;
  readonly settings: Settings;
}

/** The page as Markdown. `processSettings` are those of every process of a distributed installation. */
export const describeSettings = (
  processSettings: Readonly<Record<string, Setting>>,
  services: readonly Section[],
  workerSettings: Readonly<Record<string, WorkerSetting>>,
): string => {
  const sections = [{ name: 'events', settings: busSettings }, { name: 'the relay of events', settings: eventLogSettings }, ...services]
    .filter(service => Object.keys(service.settings).length > 0)
    .map(service => table(service.name, Object.values(service.settings).map(row)));
  const ofWorker = Object.values(workerSettings).map(({ env, meaning, fallback, secret }) => {
    // the default of this one is the machine's
    const shown = env === 'WORKER_CAPACITY' ? 'number of processors' : (show(fallback) ?? '–');
    return `| \`${env}\` | ${cell(meaning)}${secret ? ' (secret)' : ''} | ${fallback === undefined ? 'required' : shown} |`;
  });
  const ofProcess = table('every process of `taskcluster serve`', Object.values(processSettings).map(row));
  return `# Settings\n\nEnvironment variables, read once at the start. Written by \`npm run gen\` from their declarations.\n\n${[ofProcess, ...sections, table('worker', ofWorker)].join('\n')}`;
};
