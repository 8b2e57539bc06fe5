// Unary gRPC calls over Node's own HTTP/2, with a token, TLS, and the server's errors.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';

const CODES = [
  'OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND',
  'ALREADY_EXISTS', 'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED',
  'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED',
];
const HERE = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/**
 * What a call ended with.
 *
 * `code` is the gRPC status by name, `error` the class that the Python client would raise, `facts`
 * its details as JSON has them. `requestId` is what the server's logs call the request.
 */
export class CallError extends Error {
  constructor(code, message, { error = '', facts = {}, requestId = '' } = {}) {
    super(message);
    this.name = 'CallError';
    Object.assign(this, { code, error, facts, requestId: facts.request_id ?? requestId });
  }
}

/** A connection to a server. */
export class Channel {
  #session;
  #schema;
  #token;

  /**
   * @param {string} target host:port.
   * @param {import('./proto.mjs').Schema} schema of the services that are called.
   * @param {{token?: string, ca?: string, certificate?: string, key?: string}} login a token, and
   *   paths of PEM files; any of them: the connection speaks TLS.
   */
  constructor(target, schema, { token, ca, certificate, key } = {}) {
    const tls = Boolean(ca || certificate || key);
    const host = target.slice(0, target.lastIndexOf(':'));
    if (token && !tls && !HERE.test(host)) {
      throw new Error(`the token would travel to ${target} in clear text; give a ca`);
    }
    const read = (path) => (path ? readFileSync(path) : undefined);
    this.#schema = schema;
    this.#token = token;
    this.#session = http2.connect(`${tls ? 'https' : 'http'}://${target}`, {
      ca: read(ca),
      cert: read(certificate),
      key: read(key),
    });
    this.#session.on('error', () => {}); // each call is told by itself
  }

  /**
   * Make one call: `call('featurestore.v1.FeatureStoreRuntime/GetRecord', {...})`.
   *
   * @returns {Promise<object>} the reply.
   * @throws {CallError} the server, or the connection, refused.
   */
  async call(method, request, { timeoutMs = 30_000 } = {}) {
    const types = this.#schema.method(method);
    const body = this.#schema.encode(types.request, request);
    const reply = await this.#exchange(types.path, body, timeoutMs);
    return this.#schema.decode(types.reply, reply);
  }

  close() {
    this.#session.close();
  }

  #exchange(path, body, timeoutMs) {
    const requestId = randomUUID();
    return new Promise((resolve, reject) => {
      const unreachable = (error) =>
        reject(new CallError('UNAVAILABLE', `${path}: ${error.message}`, { requestId }));
      let stream;
      try {
        stream = this.#session.request({
          ':method': 'POST',
          ':path': path,
          'content-type': 'application/grpc',
          te: 'trailers',
          'grpc-timeout': `${timeoutMs}m`,
          'x-request-id': requestId,
          ...(this.#token ? { authorization: `Bearer ${this.#token}` } : {}),
        });
      } catch (error) {
        unreachable(error);
        return;
      }
      const headers = {};
      const chunks = [];
      stream.on('response', (received) => Object.assign(headers, received));
      stream.on('trailers', (received) => Object.assign(headers, received));
      stream.on('data', (chunk) => chunks.push(chunk));
      stream.on('error', unreachable);
      stream.setTimeout(timeoutMs + 1000, () => {
        stream.close(http2.constants.NGHTTP2_CANCEL);
        reject(new CallError('DEADLINE_EXCEEDED', `${path}: no answer in time`, { requestId }));
      });
      stream.on('end', () => {
        const status = headers['grpc-status'];
        if (status === undefined) {
          unreachable(new Error(`no gRPC server: HTTP status ${headers[':status']}`));
        } else if (status !== '0') reject(refusal(headers, requestId));
        else resolve(Buffer.concat(chunks).subarray(5)); // one flag, four bytes of length
      });
      const frame = Buffer.alloc(5);
      frame.writeUInt32BE(body.length, 1);
      stream.end(Buffer.concat([frame, body]));
    });
  }
}

function refusal(headers, requestId) {
  const facts = headers['featureline-facts-bin'];
  return new CallError(
    CODES[Number(headers['grpc-status'])] ?? 'UNKNOWN',
    decodeURIComponent(headers['grpc-message'] ?? ''),
    {
      error: headers['featureline-error'],
      facts: facts ? JSON.parse(Buffer.from(facts, 'base64')) : {},
      requestId,
    },
  );
}
