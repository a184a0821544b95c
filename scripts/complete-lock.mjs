/**
 * Completes package-lock.json after `npm install`: npm leaves out optional platform packages that the registry in use does not carry (a mirror may
 * hold only some platforms), and then `npm ci` refuses the lock file everywhere. The missing entries need no more than version and platform: they
 * are only ever downloaded on the platform that they name.
 *
 *     node scripts/complete-lock.mjs [--check]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const OSES = ['darwin', 'linux', 'win32', 'freebsd', 'android', 'openharmony', 'openbsd', 'netbsd', 'sunos', 'aix'];
const CPUS = ['arm64', 'x64', 'ia32', 'arm', 'ppc64', 's390x', 'riscv64', 'loong64', 'mips64el'];

/** The platform a package's name tells, in the words of `package.json`: `@x/binding-linux-x64-musl` → os linux, cpu x64, libc musl. */
export const platformOf = name => {
  const words = name.split(/[-/.]/);
  const os = OSES.filter(word => words.includes(word));
  const cpu = CPUS.filter(word => words.includes(word));
  const libc = words.some(word => word.startsWith('musl')) ? ['musl'] : words.some(word => word.startsWith('gnu')) ? ['glibc'] : [];
  return { ...(cpu.length > 0 && { cpu }), ...(libc.length > 0 && { libc }), ...(os.length > 0 && { os }) };
};

/** The optional dependencies that no entry of the lock file satisfies, as entries to add. */
export const missingEntries = lock => {
  const missing = {};
  for (const [path, entry] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      const nested = path === '' || !path.includes('node_modules/') ? undefined : `${path}/node_modules/${name}`;
      const hoisted = `node_modules/${name}`;
      const platform = platformOf(name);
      if ((nested && lock.packages[nested]) || lock.packages[hoisted] || missing[hoisted] || !platform.os || !/^\d/.test(version)) {
        continue;
      }
      missing[hoisted] = { version, ...platform, ...(entry.dev && { dev: true }), optional: true };
    }
  }
  return missing;
};

if (import.meta.main ?? process.argv[1] === import.meta.filename) {
  const file = join(import.meta.dirname, '..', 'package-lock.json');
  const lock = JSON.parse(readFileSync(file, 'utf8'));
  const missing = missingEntries(lock);
  const names = Object.keys(missing);
  if (process.argv.includes('--check')) {
    if (names.length > 0) {
      console.error(`package-lock.json lacks ${names.join(', ')}: run node scripts/complete-lock.mjs`);
      process.exit(1);
    }
  } else if (names.length > 0) {
    const all = { ...lock.packages, ...missing };
    lock.packages = Object.fromEntries(
      Object.keys(all)
        .sort((a, b) => a.localeCompare(b, 'en'))
        .map(key => [key, all[key]]),
    );
    writeFileSync(file, JSON.stringify(lock, null, 2) + '\n');
    console.log(`added ${names.length} platform packages to package-lock.json`);
  }
}
