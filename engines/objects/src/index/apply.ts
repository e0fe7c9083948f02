import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Mutation, Place, PutMutation, RemoveMutation, VersionRow } from "./rows.ts";

/** How far the journal is in the index. */
export interface Applied {
  segment: number;
  position: number;
  sequence: number;
}

interface UsageChange {
  objects: number;
  bytes: number;
  versions: number;
  uploads: number;
}

/**
 * Writes mutations of the journal into the index and keeps what the index derives from them: which
 * version is listed, each bucket's usage, each segment's live bytes. Applying a record again, or all
 * from the first, ends in the same rows: live operation and replay are one code.
 */
export class IndexWriter {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #usage = new Map<number, UsageChange>();
  #live = new Map<number, number>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  applied(): Applied {
    return this.#get("SELECT segment, position, sequence FROM state") as unknown as Applied;
  }

  begin(): void {
    this.#database.exec("BEGIN IMMEDIATE");
  }

  /** Ends the transaction; `applied` is the end of the last record in it. */
  commit(applied: Applied): void {
    for (const [bucket, change] of this.#usage) {
      this.#run(
        "UPDATE buckets SET objects=objects+?, bytes=bytes+?, versions=versions+?, uploads=uploads+? WHERE id=?",
        change.objects,
        change.bytes,
        change.versions,
        change.uploads,
        bucket,
      );
    }
    for (const [segment, bytes] of this.#live) {
      if (bytes === 0) continue;
      this.#run(
        "INSERT INTO segments VALUES (?1, ?2) ON CONFLICT (number) DO UPDATE SET live=live+?2",
        segment,
        bytes,
      );
    }
    this.#run(
      "UPDATE state SET segment=?, position=?, sequence=?",
      applied.segment,
      applied.position,
      applied.sequence,
    );
    this.#database.exec("COMMIT");
    this.#forget();
  }

  rollback(): void {
    this.#forget();
    if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
  }

  /** Forgets a segment whose file goes. */
  dropSegment(number: number): void {
    this.#live.delete(number);
    this.#run("DELETE FROM segments WHERE number=?", number);
  }

  /** Of all segments. */
  liveBytes(): number {
    return (this.#get("SELECT coalesce(sum(live), 0) AS live FROM segments") as { live: number }).live;
  }

  apply(mutation: Mutation, place: Place): void {
    if ("remove" in mutation) this.#remove(mutation);
    else this.#put(mutation, place);
  }

  /** Whether the row that a record put is still the one of that record. */
  isLive(mutation: Mutation, segment: number, position: number): boolean {
    if ("remove" in mutation) return false;
    const row = this.#placeOf(mutation);
    return row !== undefined && row.segment === segment && row.position === position;
  }

  #placeOf(mutation: PutMutation): { segment: number; position: number } | undefined {
    const columns = "segment, position, weight";
    const found = (() => {
      switch (mutation.put) {
        case "bucket":
          return this.#get(`SELECT ${columns} FROM buckets WHERE id=?`, mutation.row.id);
        case "version":
          return this.#version(mutation.row.bucket, keyBytes(mutation.row.key), mutation.row.sequence);
        case "upload": {
          const { bucket, key, sequence } = mutation.row;
          return this.#get(
            `SELECT ${columns} FROM uploads WHERE bucket=? AND key=? AND sequence=?`,
            bucket,
            keyBytes(key),
            sequence,
          );
        }
        case "part":
          return this.#get(
            `SELECT ${columns} FROM parts WHERE upload=? AND number=?`,
            mutation.row.upload,
            mutation.row.number,
          );
      }
    })();
    return found as { segment: number; position: number } | undefined;
  }

  #put(mutation: PutMutation, place: Place): void {
    this.#grow(place.segment, place.weight);
    if (mutation.put === "version") {
      this.#putVersion(mutation.row, place);
      return;
    }
    const old = this.#placeOf(mutation) as Place | undefined;
    if (old !== undefined) this.#grow(old.segment, -old.weight);
    const where = [place.segment, place.position, place.weight] as const;
    switch (mutation.put) {
      case "bucket": {
        const { id, name, createdAt, owner, versioning, settings } = mutation.row;
        const json = JSON.stringify(settings);
        if (old !== undefined) {
          this.#run(
            "UPDATE buckets SET versioning=?, settings=?, owner=?, segment=?, position=?, weight=? WHERE id=?",
            versioning,
            json,
            owner,
            ...where,
            id,
          );
        } else {
          this.#run(
            `INSERT INTO buckets (id, name, created, owner, versioning, settings, segment, position, weight)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
            id,
            name,
            createdAt,
            owner,
            versioning,
            json,
            ...where,
          );
        }
        return;
      }
      case "upload": {
        const { bucket, key, sequence, id, owner, initiatedAt, attributes, checksum } = mutation.row;
        if (old === undefined) this.#count(bucket).uploads += 1;
        this.#run(
          "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          bucket,
          keyBytes(key),
          sequence,
          id,
          owner,
          initiatedAt,
          attributes === undefined ? null : JSON.stringify(attributes),
          checksum === undefined ? null : JSON.stringify(checksum),
          ...where,
        );
        return;
      }
      case "part": {
        const { upload, number, sizeBytes, etag, modifiedAt, checksum, blob } = mutation.row;
        this.#run(
          "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          upload,
          number,
          sizeBytes,
          etag,
          modifiedAt,
          checksum ?? null,
          blob,
          ...where,
        );
      }
    }
  }

  #putVersion(row: VersionRow, place: Place): void {
    const { bucket, sequence } = row;
    const key = keyBytes(row.key);
    const usage = this.#count(bucket);
    const top = this.#top(bucket, key);
    const old =
      top === undefined || top.sequence < sequence
        ? undefined
        : top.sequence === sequence
          ? top
          : this.#version(bucket, key, sequence);
    if (old === undefined) {
      usage.versions += 1;
      usage.bytes += row.sizeBytes;
    } else {
      this.#grow(old.segment, -old.weight);
    }
    const isTop = top === undefined || top.sequence <= sequence;
    const listed = isTop && row.deleteMarker !== true ? 1 : 0;
    if (isTop && top !== undefined && top.sequence !== sequence && top.listed === 1) {
      this.#list(bucket, key, top.sequence, 0);
    }
    usage.objects += listed - (old?.listed ?? 0);
    this.#run(
      "INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      bucket,
      key,
      sequence,
      row.versionId,
      row.deleteMarker === true ? 1 : 0,
      listed,
      row.sizeBytes,
      row.etag,
      row.modifiedAt,
      row.owner,
      row.attributes === undefined ? null : JSON.stringify(row.attributes),
      row.blob ?? null,
      row.upload?.id ?? null,
      row.upload?.sequence ?? null,
      place.segment,
      place.position,
      place.weight,
      place.inlineAt,
      place.inlineCrc,
    );
  }

  #remove(mutation: RemoveMutation): void {
    switch (mutation.remove) {
      case "bucket":
        this.#shrink("SELECT segment, weight FROM buckets WHERE id=?", mutation.id);
        this.#run("DELETE FROM buckets WHERE id=?", mutation.id);
        return;
      case "version":
        this.#removeVersion(mutation.bucket, keyBytes(mutation.key), mutation.sequence);
        return;
      case "upload": {
        const name = [mutation.bucket, keyBytes(mutation.key), mutation.sequence] as const;
        const where = "WHERE bucket=? AND key=? AND sequence=?";
        if (this.#shrink(`SELECT segment, weight FROM uploads ${where}`, ...name)) {
          this.#count(mutation.bucket).uploads -= 1;
          this.#run(`DELETE FROM uploads ${where}`, ...name);
        }
        return;
      }
      case "part": {
        const where = "WHERE upload=? AND number=?";
        this.#shrink(`SELECT segment, weight FROM parts ${where}`, mutation.upload, mutation.number);
        this.#run(`DELETE FROM parts ${where}`, mutation.upload, mutation.number);
        return;
      }
      case "parts": {
        const but = JSON.stringify(mutation.but ?? []);
        const where = "WHERE upload=? AND number NOT IN (SELECT value FROM json_each(?))";
        this.#shrink(`SELECT segment, weight FROM parts ${where}`, mutation.upload, but);
        this.#run(`DELETE FROM parts ${where}`, mutation.upload, but);
      }
    }
  }

  #removeVersion(bucket: number, key: Uint8Array, sequence: number): void {
    const old = this.#version(bucket, key, sequence);
    if (old === undefined) return;
    const usage = this.#count(bucket);
    this.#grow(old.segment, -old.weight);
    usage.versions -= 1;
    usage.bytes -= old.size;
    usage.objects -= old.listed;
    this.#run("DELETE FROM versions WHERE bucket=? AND key=? AND sequence=?", bucket, key, sequence);
    const top = this.#top(bucket, key);
    if (top !== undefined && top.sequence < sequence && top.marker === 0 && top.listed === 0) {
      this.#list(bucket, key, top.sequence, 1);
    }
  }

  #list(bucket: number, key: Uint8Array, sequence: number, listed: 0 | 1): void {
    this.#run(
      "UPDATE versions SET listed=? WHERE bucket=? AND key=? AND sequence=?",
      listed,
      bucket,
      key,
      sequence,
    );
    this.#count(bucket).objects += listed === 1 ? 1 : -1;
  }

  #top(bucket: number, key: Uint8Array): KnownVersion | undefined {
    return this.#get(
      `SELECT ${known} FROM versions WHERE bucket=? AND key=? ORDER BY sequence DESC LIMIT 1`,
      bucket,
      key,
    ) as KnownVersion | undefined;
  }

  #version(bucket: number, key: Uint8Array, sequence: number): KnownVersion | undefined {
    return this.#get(
      `SELECT ${known} FROM versions WHERE bucket=? AND key=? AND sequence=?`,
      bucket,
      key,
      sequence,
    ) as KnownVersion | undefined;
  }

  /** Takes the rows' weight from their segments; whether there were any. */
  #shrink(sql: string, ...values: Value[]): boolean {
    let any = false;
    for (const row of this.#statement(sql).all(...values) as { segment: number; weight: number }[]) {
      this.#grow(row.segment, -row.weight);
      any = true;
    }
    return any;
  }

  #grow(segment: number, bytes: number): void {
    this.#live.set(segment, (this.#live.get(segment) ?? 0) + bytes);
  }

  #count(bucket: number): UsageChange {
    let change = this.#usage.get(bucket);
    if (change === undefined) {
      change = { objects: 0, bytes: 0, versions: 0, uploads: 0 };
      this.#usage.set(bucket, change);
    }
    return change;
  }

  #forget(): void {
    this.#usage = new Map();
    this.#live = new Map();
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #get(sql: string, ...values: Value[]): unknown {
    return this.#statement(sql).get(...values);
  }

  #run(sql: string, ...values: Value[]): void {
    this.#statement(sql).run(...values);
  }
}

type Value = null | number | string | Uint8Array;

interface KnownVersion {
  sequence: number;
  marker: 0 | 1;
  listed: 0 | 1;
  size: number;
  segment: number;
  position: number;
  weight: number;
}

const known = "sequence, marker, listed, size, segment, position, weight";

export function keyBytes(key: string): Buffer {
  return Buffer.from(key);
}
