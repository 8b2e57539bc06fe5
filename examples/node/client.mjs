// Puts and gets records of a feature group: `node client.mjs HOST:PORT`.
//
// The token and the files of TLS come from the environment: FEATURELINE_TOKEN,
// FEATURELINE_TLS_CA, FEATURELINE_TLS_CERT, FEATURELINE_TLS_KEY.

import { fileURLToPath } from 'node:url';

import { CallError, Channel } from './channel.mjs';
import { Schema } from './proto.mjs';

const RUNTIME = 'featurestore.v1.FeatureStoreRuntime';
const CONTROL = 'featurestore.v1.FeatureStore';
const GROUP = 'weather';
const FIELDS = {
  STRING: 'string_value',
  INTEGRAL: 'integral_value',
  FRACTIONAL: 'fractional_value',
};

const proto = fileURLToPath(new URL('../../proto', import.meta.url));
const schema = new Schema(proto, [
  'featurestore/v1/runtime.proto',
  'featurestore/v1/control.proto',
]);
const { FEATURELINE_TOKEN, FEATURELINE_TLS_CA, FEATURELINE_TLS_CERT, FEATURELINE_TLS_KEY } =
  process.env;
const channel = new Channel(process.argv[2] ?? '127.0.0.1:50051', schema, {
  token: FEATURELINE_TOKEN,
  ca: FEATURELINE_TLS_CA,
  certificate: FEATURELINE_TLS_CERT,
  key: FEATURELINE_TLS_KEY,
});

/** The feature types of a group, by feature; the group is made when it is not there. */
async function featureTypes() {
  try {
    const { description } = await channel.call(`${CONTROL}/DescribeFeatureGroup`, {
      feature_group_name: GROUP,
    });
    return typesOf(description.feature_group);
  } catch (error) {
    if (error.error !== 'FeatureGroupNotFound') throw error;
  }
  const { description } = await channel.call(`${CONTROL}/CreateFeatureGroup`, {
    feature_group: {
      feature_group_name: GROUP,
      record_identifier_feature_name: 'origin',
      event_time_feature_name: 'hour',
      feature_definitions: [
        { feature_name: 'origin', feature_type: 'STRING' },
        { feature_name: 'hour', feature_type: 'STRING' },
        { feature_name: 'temp', feature_type: 'FRACTIONAL' },
        { feature_name: 'wind', feature_type: 'INTEGRAL' },
      ],
      enable_online_store: true,
      enable_offline_store: true,
    },
  });
  return typesOf(description.feature_group);
}

const typesOf = (group) =>
  Object.fromEntries(group.feature_definitions.map((def) => [def.feature_name, def.feature_type]));

/** A plain object as a record: JavaScript has one kind of number, the group knows which is meant. */
const toRecord = (values, types) => ({
  values: Object.entries(values).map(([feature, value]) => ({
    feature_name: feature,
    // What the group does not have is sent too: the server's error names it.
    value: { [FIELDS[types[feature] ?? 'STRING']]: value },
  })),
});

/** A record as a plain object. */
const fromRecord = (record) =>
  Object.fromEntries(
    record.values.map(({ feature_name: feature, value }) => {
      const [found] = Object.values(value).filter((item) => item !== undefined);
      return [feature, found?.values ?? found];
    }),
  );

const show = (what, value) => {
  const plain = (_, item) => (typeof item === 'bigint' ? String(item) : item);
  console.log(JSON.stringify({ [what]: value }, plain));
};

try {
  const types = await featureTypes();
  const put = (values) =>
    channel.call(`${RUNTIME}/PutRecord`, {
      feature_group_name: GROUP,
      record: toRecord(values, types),
    });

  await put({ origin: 'JFK', hour: '2013-01-01T06:00:00Z', temp: 39, wind: 12 });
  await put({ origin: 'LGA', hour: '2013-01-01T06:00:00Z', temp: -3.5, wind: -1 });

  const { record } = await channel.call(`${RUNTIME}/GetRecord`, {
    feature_group_name: GROUP,
    record_identifier_value_as_string: 'JFK',
  });
  show('get', fromRecord(record));

  // What is not there is no error: the record is absent.
  const nobody = await channel.call(`${RUNTIME}/GetRecord`, {
    feature_group_name: GROUP,
    record_identifier_value_as_string: 'EWR',
  });
  show('missing', nobody.record === undefined);

  const batch = await channel.call(`${RUNTIME}/BatchGetRecord`, {
    identifiers: [
      {
        feature_group_name: GROUP,
        record_identifiers_value_as_string: ['LGA', 'EWR', 'JFK'],
        feature_names: ['origin', 'temp'],
      },
    ],
  });
  show('batch', batch.records.map((found) => fromRecord(found.record)));

  try {
    await put({ origin: 'JFK', hour: '2013-01-01T07:00:00Z', humidity: 'high' });
  } catch (refused) {
    if (!(refused instanceof CallError)) throw refused;
    const { code, error, message, facts } = refused;
    show('refused', { code, error, message, facts });
  }
} catch (error) {
  if (!(error instanceof CallError)) throw error;
  const { code, error: kind, message, facts, requestId } = error;
  console.error(JSON.stringify({ code, error: kind, message, facts, request_id: requestId }));
  process.exitCode = 1;
} finally {
  channel.close();
}
