import { expect, test } from 'vitest';
import { readSettings } from '../config.ts';
import { offersQuorumQueues } from './amqp/topology.ts';
import { busSettings } from './open.ts';

test.each(['http://host', 'amqp:', 'rabbit.example.com', 'amqp://'])('PULSE_URL=%s is refused, and not shown', value => {
  expect(() => readSettings(busSettings, { PULSE_URL: value })).toThrow(/PULSE_URL must be amqp:\/\/ or amqps:\/\//);
});

test('PULSE_URL is taken as it is given', () => {
  const url = 'amqps://user:p%40ss@rabbit.example.com:5671/a%2Fb';
  expect(readSettings(busSettings, { PULSE_URL: url })).toEqual({ pulseUrl: url, abandonedDays: 7 });
  expect(readSettings(busSettings, {})).toEqual({ pulseUrl: undefined, abandonedDays: 7 });
});

test.each([
  [{ product: 'RabbitMQ', version: '3.10.8' }, true],
  [{ product: 'RabbitMQ', version: '4.2.0' }, true],
  [{ product: 'RabbitMQ', version: '3.9.13' }, false],
  [{ product: 'LavinMQ', version: '2.0.0' }, false],
  [{}, false],
])('quorum queues are offered by %j: %j', (properties, offered) => {
  expect(offersQuorumQueues(properties)).toBe(offered);
});
