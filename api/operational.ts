/** The methods every service has, for whoever watches it. They take no scopes and look at no credentials. */
import { methods } from './define.ts';

/** First in every API. */
export const pingMethods = methods({
  ping: {
    method: 'get',
    route: '/ping',
    title: 'Ping',
    description:
      'Answers as long as the service is up, with `alive` and the `uptime` in seconds. Touches neither database nor any other service.',
    category: 'Monitoring',
    stability: 'stable',
    bodyWithoutSchema: true,
  },
  lbheartbeat: {
    method: 'get',
    route: '/__lbheartbeat__',
    title: 'Heartbeat for Load Balancers',
    description: 'For load balancers: an empty object while this process wants to receive requests.',
    category: 'Monitoring',
    stability: 'stable',
    bodyWithoutSchema: true,
  },
  version: {
    method: 'get',
    route: '/__version__',
    title: 'Software Version',
    description: 'Which version, commit, source and build is running.',
    category: 'Monitoring',
    stability: 'stable',
    bodyWithoutSchema: true,
  },
});

/** Last in every API. */
export const heartbeatMethods = methods({
  heartbeat: {
    method: 'get',
    route: '/__heartbeat__',
    title: 'Heartbeat for Monitoring',
    description: 'For monitoring: an empty object. A failing database shows in the methods that need it, not here.',
    category: 'Monitoring',
    stability: 'stable',
    bodyWithoutSchema: true,
  },
});
