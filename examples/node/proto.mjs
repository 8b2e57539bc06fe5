// Reads .proto files (proto3) and codes their messages as protobuf's wire format has it.
//
// Messages are plain objects with the names of the .proto file. Enums are their names, bytes are
// Buffers, 64-bit integers beyond 2^53 are BigInt. What is absent reads as the default of its
// type; a message, a member of a oneof, or an optional field that is absent reads as undefined.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const WELL_KNOWN = {
  'google/protobuf/timestamp.proto':
    'package google.protobuf; message Timestamp { int64 seconds = 1; int32 nanos = 2; }',
  'google/protobuf/struct.proto': `package google.protobuf; enum NullValue { NULL_VALUE = 0; }
    message Struct { map<string, Value> fields = 1; } message ListValue { repeated Value values = 1; }
    message Value { oneof kind { NullValue null_value = 1; double number_value = 2; string string_value = 3;
      bool bool_value = 4; Struct struct_value = 5; ListValue list_value = 6; } }`,
};

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

const integer = {
  wire: VARINT,
  absent: 0,
  write: (value) => varint(BigInt.asUintN(64, BigInt(value))),
  read: (raw) => exact(BigInt.asIntN(64, raw)),
};
const unsigned = { ...integer, read: exact };
const zigzag = {
  ...integer,
  write: (value) => varint(BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n))),
  read: (raw) => exact((raw >> 1n) ^ -(raw & 1n)),
};
const SCALARS = {
  int32: integer,
  int64: integer,
  uint32: unsigned,
  uint64: unsigned,
  sint32: zigzag,
  sint64: zigzag,
  bool: {
    wire: VARINT,
    absent: false,
    write: (value) => varint(value ? 1n : 0n),
    read: (raw) => raw !== 0n,
  },
  double: {
    wire: FIXED64,
    absent: 0,
    write(value) {
      const bytes = Buffer.alloc(8);
      bytes.writeDoubleLE(value);
      return bytes;
    },
    read: (raw) => raw.readDoubleLE(0),
  },
  float: {
    wire: FIXED32,
    absent: 0,
    write(value) {
      const bytes = Buffer.alloc(4);
      bytes.writeFloatLE(value);
      return bytes;
    },
    read: (raw) => raw.readFloatLE(0),
  },
  string: {
    wire: BYTES,
    absent: '',
    write: (value) => Buffer.from(String(value)),
    read: (raw) => raw.toString(),
  },
  bytes: {
    wire: BYTES,
    absent: Buffer.alloc(0),
    write: (value) => Buffer.from(value),
    read: (raw) => Buffer.from(raw),
  },
};

/** The messages, enums and services of some .proto files. */
export class Schema {
  #messages = new Map();
  #enums = new Map();
  #methods = new Map();
  #files = new Set();

  /**
   * @param {string} root folder that imports are relative to.
   * @param {string[]} files what to read there, and what they import.
   */
  constructor(root, files) {
    for (const file of files) this.#load(root, file);
  }

  /** The types of a method: `featurestore.v1.FeatureStoreRuntime/GetRecord`. */
  method(name) {
    return known(this.#methods, name, 'method');
  }

  encode(type, message) {
    const parts = [];
    const { byName } = known(this.#messages, type, 'message');
    for (const [name, value] of Object.entries(message)) {
      const field = byName.get(name);
      if (!field) throw new TypeError(`${type}: no field ${name}; it has ${[...byName.keys()]}`);
      if (value === undefined || value === null) continue;
      if (field.map) {
        for (const [key, item] of Object.entries(value)) {
          const entry = this.encode(field.type, { key, value: item });
          parts.push(tag(field.number, BYTES), varint(BigInt(entry.length)), entry);
        }
        continue;
      }
      for (const item of field.repeated ? value : [value]) parts.push(...this.#one(field, item));
    }
    return Buffer.concat(parts);
  }

  decode(type, bytes) {
    const { byNumber } = known(this.#messages, type, 'message');
    const message = {};
    for (const field of byNumber.values()) {
      if (field.map) message[field.name] = {};
      else if (field.repeated) message[field.name] = [];
      else if (!field.optional) {
        const absent = this.#absent(field);
        if (absent !== undefined) message[field.name] = absent;
      }
    }
    for (const [number, wire, raw] of fields(bytes)) {
      const field = byNumber.get(number);
      if (!field) continue; // of a newer version
      const values = this.#values(field, wire, raw);
      if (field.map) {
        const [{ key, value }] = values;
        message[field.name][key] = value;
      } else if (field.repeated) message[field.name].push(...values);
      else message[field.name] = values.at(-1);
    }
    return message;
  }

  #one(field, value) {
    const scalar = this.#scalar(field.type);
    if (scalar) {
      const bytes = scalar.write(value);
      const length = scalar.wire === BYTES ? [varint(BigInt(bytes.length))] : [];
      return [tag(field.number, scalar.wire), ...length, bytes];
    }
    const bytes = this.encode(field.type, value);
    return [tag(field.number, BYTES), varint(BigInt(bytes.length)), bytes];
  }

  #values(field, wire, raw) {
    const scalar = this.#scalar(field.type);
    if (!scalar) return [this.decode(field.type, raw)];
    if (wire === BYTES && scalar.wire !== BYTES) {
      return [...packed(raw, scalar.wire)].map((item) => scalar.read(item));
    }
    return [scalar.read(raw)];
  }

  #scalar(type) {
    const names = this.#enums.get(type);
    if (!names) return SCALARS[type];
    return {
      ...integer,
      write(value) {
        const number = typeof value === 'number' ? value : names.byName.get(value);
        if (number === undefined) {
          throw new TypeError(`${type}: expected one of ${[...names.byName.keys()]}, got ${value}`);
        }
        return integer.write(number);
      },
      read(raw) {
        const number = integer.read(raw);
        return names.byNumber.get(number) ?? number;
      },
    };
  }

  #absent(field) {
    const names = this.#enums.get(field.type);
    return names ? names.byNumber.get(0) : SCALARS[field.type]?.absent;
  }

  #load(root, file) {
    if (this.#files.has(file)) return;
    this.#files.add(file);
    const text = WELL_KNOWN[file] ?? readFileSync(join(root, file), 'utf8');
    const parsed = parse(text);
    for (const imported of parsed.imports) this.#load(root, imported);
    for (const [name, names] of parsed.enums) this.#enums.set(name, names);
    for (const [name, message] of parsed.messages) this.#messages.set(name, message);
    // Names are relative to where they stand, so all must be there first.
    for (const [scope, message] of parsed.messages) {
      for (const field of message.byName.values()) field.type = this.#resolve(field.type, scope);
    }
    for (const [name, method] of parsed.methods) {
      const [request, reply] = method.map((type) => this.#resolve(type, parsed.package));
      this.#methods.set(name, { path: `/${name}`, request, reply });
    }
  }

  #resolve(type, scope) {
    if (type in SCALARS) return type;
    for (let around = scope; ; around = around.slice(0, Math.max(0, around.lastIndexOf('.')))) {
      const full = around ? `${around}.${type}` : type;
      if (this.#messages.has(full) || this.#enums.has(full)) return full;
      if (!around) throw new TypeError(`${scope}: unknown type ${type}`);
    }
  }
}

function known(map, name, what) {
  const found = map.get(name);
  if (!found) throw new TypeError(`no ${what} ${name} in the .proto files`);
  return found;
}

// -- the language ---------------------------------------------------------------------------------

function messageOf(fields) {
  const message = { byName: new Map(), byNumber: new Map() };
  for (const field of fields) addField(message, field);
  return message;
}

function addField(message, field) {
  message.byName.set(field.name, field);
  message.byNumber.set(field.number, field);
}

function parse(text) {
  const words = text.replace(/\/\/.*|\/\*[^]*?\*\//g, ' ').match(/"[^"]*"|[\w.]+|[^\s\w]/g) ?? [];
  const found = {
    package: '',
    imports: [],
    enums: new Map(),
    messages: new Map(),
    methods: new Map(),
  };
  let at = 0;
  const next = () => words[at++];
  const statement = () => {
    const begin = at;
    while (words[at] !== ';') at += 1;
    return words.slice(begin, at++);
  };
  const block = (read) => {
    at += 1; // {
    while (words[at] !== '}') read();
    at += 1;
  };

  const readEnum = (scope) => {
    const names = { byName: new Map(), byNumber: new Map() };
    found.enums.set(`${scope}.${next()}`, names);
    block(() => {
      const [word, , ...number] = statement(); // NAME = 1, or -1
      if (word === 'option' || word === 'reserved') return;
      names.byName.set(word, Number(number.join('')));
      names.byNumber.set(Number(number.join('')), word);
    });
  };

  const readMessage = (scope) => {
    const full = `${scope}.${next()}`;
    const message = messageOf([]);
    found.messages.set(full, message);
    const readField = (oneof) => {
      const line = statement();
      if (['option', 'reserved', 'extensions'].includes(line[0])) return;
      if (line[0] === 'map') {
        const [, , key, , value, , name, , number] = line; // map < key , value > name = 1
        const type = `${full}.${name}Entry`;
        const entry = [
          { name: 'key', type: key, number: 1 },
          { name: 'value', type: value, number: 2 },
        ];
        found.messages.set(type, messageOf(entry));
        addField(message, { name, type, number: Number(number), map: true });
        return;
      }
      const repeated = line[0] === 'repeated';
      const optional = oneof || line[0] === 'optional';
      if (repeated || line[0] === 'optional') line.shift();
      const [type, name, , number] = line; // type name = 1
      addField(message, { name, type, number: Number(number), repeated, optional });
    };
    block(() => {
      const word = words[at];
      if (!['message', 'enum', 'oneof'].includes(word)) {
        readField(false);
        return;
      }
      at += 1;
      if (word === 'message') readMessage(full);
      else if (word === 'enum') readEnum(full);
      else {
        at += 1; // its name
        block(() => readField(true));
      }
    });
  };

  const readService = () => {
    const service = next();
    block(() => {
      if (words[at] !== 'rpc') {
        statement();
        return;
      }
      next(); // rpc
      const name = next();
      const types = [];
      while (words[at] !== ';' && words[at] !== '{') {
        const word = next();
        if (!['(', ')', 'returns', 'stream'].includes(word)) types.push(word);
      }
      if (next() === '{') while (next() !== '}');
      if (words[at] === ';') at += 1;
      found.methods.set(`${found.package}.${service}/${name}`, types);
    });
  };

  while (at < words.length) {
    const word = next();
    if (word === 'package') [found.package] = statement();
    else if (word === 'import') found.imports.push(statement().at(-1).slice(1, -1));
    else if (word === 'message') readMessage(found.package);
    else if (word === 'enum') readEnum(found.package);
    else if (word === 'service') readService();
    else statement(); // syntax, option
  }
  return found;
}

// -- the wire -------------------------------------------------------------------------------------

function exact(value) {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function varint(value) {
  const bytes = [];
  do {
    const more = value > 127n ? 128 : 0;
    bytes.push(Number(value & 127n) | more);
    value >>= 7n;
  } while (value > 0n);
  return Buffer.from(bytes);
}

const tag = (number, wire) => varint(BigInt((number << 3) | wire));

function readVarint(bytes, at) {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n, at += 1) {
    if (at >= bytes.length || shift > 63n) throw new RangeError('a varint is cut off');
    value |= BigInt(bytes[at] & 127) << shift;
    if (bytes[at] < 128) return [BigInt.asUintN(64, value), at + 1];
  }
}

function readValue(bytes, at, wire) {
  if (wire === VARINT) return readVarint(bytes, at);
  let size = { [FIXED64]: 8, [FIXED32]: 4 }[wire];
  if (wire === BYTES) {
    const [length, begin] = readVarint(bytes, at);
    [size, at] = [Number(length), begin];
  }
  if (size === undefined) throw new RangeError(`wire type ${wire} is not known`);
  if (at + size > bytes.length) throw new RangeError('a field is cut off');
  return [bytes.subarray(at, at + size), at + size];
}

function* fields(bytes) {
  for (let at = 0; at < bytes.length; ) {
    const [key, begin] = readVarint(bytes, at);
    const wire = Number(key & 7n);
    const [raw, end] = readValue(bytes, begin, wire);
    yield [Number(key >> 3n), wire, raw];
    at = end;
  }
}

function* packed(bytes, wire) {
  for (let at = 0; at < bytes.length; ) {
    const [raw, end] = readValue(bytes, at, wire);
    yield raw;
    at = end;
  }
}
