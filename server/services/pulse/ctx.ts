/** What the parts of the pulse service share. */
import { notFound } from '../../platform/errors.ts';
import type { Platform } from '../../platform/service.ts';
import type { Management } from './management.ts';
import type { BrokerAddress } from './settings.ts';

export interface Broker extends BrokerAddress {
  readonly management: Management;
}

export interface PulseCtx {
  readonly platform: Platform;
  /** Absent where no management interface is configured. */
  readonly broker: Broker | undefined;
  readonly namespacePrefix: string;
  readonly rotationMs: number;
  readonly connectionMs: number;
  readonly alertMessages: number;
  readonly deleteMessages: number;
}

/** 404 where this installation gives no accounts out. */
export const requireBroker = ({ broker }: PulseCtx): Broker =>
  broker ??
  notFound(
    'This installation gives out no accounts on a message broker. For that an operator has to set PULSE_MANAGEMENT_URL (and PULSE_URL).',
  );
