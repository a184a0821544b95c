/** Every method of the published Python client, unmodified; the calls and what is expected of them are those of the JavaScript client. */
import { PYTHON_PACKAGE } from '../scripts/python-package.ts';
import { describeWhere } from '../server/testing/programs.ts';
import { findPython, startPython } from './support/published/python.ts';
import { describeLibrary } from './support/published/suite.ts';

const python = findPython();

describeWhere(
  python !== undefined,
  `Python with ${PYTHON_PACKAGE}: python3 -m pip install ${PYTHON_PACKAGE}`,
  'the Python client',
  () => {
    // published after the protocol that this installation speaks
    describeLibrary(() => startPython(python as string), { unknown: ['queue.taskQueueCountsBatch'] });
  },
  false, // not every machine reaches the Python Package Index
);
