/**
 * What the dashboard asks of the control plane, as the signed-in user: row level security decides
 * what is there. Columns are named, snapshots come as text, and every write is an owner's function.
 */

const PAGE_ROWS = 1000; // what a Supabase project answers at most
const CLUSTER = "id,name,status,last_heartbeat,max_concurrency,drain,created_at";
const AGENT = "cluster_id,id,hostname,version,state,capacity,last_seen";
const PROVISION =
  "id,seq,cluster_id,configuration_id,operation,status,attempt,max_attempts,not_before," +
  "cancel_requested_at,force_cancel_requested_at,created_at,started_at,completed_at,error_code";
const WHOLE_PROVISION = `${PROVISION},stack_key,configuration_hash,error_message,execution_metadata,logs_pruned_at`;
const CONFIGURATION = "id,cluster_id,name,updated_at";
const CONFIGURATION_TEXT = `${CONFIGURATION},template_source::text,terraform_vars::text,options::text`;
const LOG = "attempt,seq,byte_offset,stream_type,log_chunk,created_at";

/** The control plane refused, or could not be asked; `message` is fit for people. */
export class ApiError extends Error {
  constructor({ message, details, hint, code }, status) {
    const words = [message, details, hint].filter(Boolean);
    super(status === 0 ? "the control plane cannot be reached" : words.join("; "));
    this.name = "ApiError";
    this.code = code;
    this.status = status;
  }
}

export class Api {
  /**
   * @param {object} client of supabase-js
   * @param {{url: string, anonKey: string, token: () => Promise<string>}} direct for bodies whose
   *   numbers JSON.stringify would change
   */
  constructor(client, direct) {
    this.client = client;
    this.direct = direct;
  }

  clusters() {
    return this.#all(() => this.#from("clusters", CLUSTER).order("created_at").order("id"));
  }

  cluster(id) {
    return this.#one(this.#from("clusters", CLUSTER).eq("id", id));
  }

  agents(clusterId) {
    const query = () => this.#from("agents", AGENT).order("last_seen", { ascending: false }).order("id");
    return this.#all(clusterId ? () => query().eq("cluster_id", clusterId) : query);
  }

  tokens(clusterId) {
    const columns = "id,fingerprint,created_at,expires_at,revoked_at,last_used_at";
    return this.#rows(this.#from("cluster_tokens", columns).eq("cluster_id", clusterId).order("created_at"));
  }

  queueDepths(clusterId = null) {
    return this.#call("queue_depth", { p_cluster_id: clusterId });
  }

  /** The newest provisions, of all clusters or of one. */
  recent(rows, clusterId) {
    const query = this.#from("provisions", PROVISION).order("created_at", { ascending: false }).limit(rows);
    return this.#rows(clusterId ? query.eq("cluster_id", clusterId) : query);
  }

  /** Ended provisions of a cluster, newest first, a page from `offset` on. */
  history(clusterId, rows, offset) {
    return this.#rows(
      this.#from("provisions", PROVISION)
        .eq("cluster_id", clusterId)
        .in("status", ["SUCCESS", "FAILED", "CANCELLED"])
        .order("created_at", { ascending: false })
        .range(offset, offset + rows - 1),
    );
  }

  /** What waits and what runs, in the order in which it is claimed. */
  active(clusterId) {
    return this.#rows(
      this.#from("provisions", PROVISION)
        .eq("cluster_id", clusterId)
        .in("status", ["QUEUED", "PROCESSING"])
        .order("seq")
        .limit(200),
    );
  }

  provision(id) {
    return this.#one(this.#from("provisions", WHOLE_PROVISION).eq("id", id));
  }

  lease(provisionId) {
    const columns = "attempt,phase,expires_at";
    return this.#one(this.#from("provision_leases", columns).eq("provision_id", provisionId));
  }

  /** Provisions of a configuration, newest first. */
  runsOf(configurationId, rows) {
    return this.#rows(
      this.#from("provisions", PROVISION)
        .eq("configuration_id", configurationId)
        .order("created_at", { ascending: false })
        .limit(rows),
    );
  }

  /** A provision's snapshot, as the text that the database holds. */
  async snapshot(provisionId) {
    const row = await this.#one(this.#from("provisions", "config_snapshot::text").eq("id", provisionId));
    return row && row.config_snapshot;
  }

  configurations() {
    return this.#all(() => this.#from("configurations", CONFIGURATION).order("name").order("id"));
  }

  configuration(id) {
    return this.#one(this.#from("configurations", CONFIGURATION_TEXT).eq("id", id));
  }

  /** Rows of one attempt: above a number in order, or below one from the newest on. */
  logs(provisionId, { attempt, above, below, rows }) {
    const query = this.#from("provision_logs", LOG).eq("provision_id", provisionId).eq("attempt", attempt);
    if (above !== undefined) {
      return this.#rows(query.gt("seq", above).order("seq").limit(rows));
    }
    const ended = below === Infinity ? query : query.lt("seq", below);
    return this.#rows(ended.order("seq", { ascending: false }).limit(rows));
  }

  /** What the agent said of itself in an attempt. */
  systemLines(provisionId, attempt) {
    return this.#rows(
      this.#from("provision_logs", "seq,log_chunk,created_at")
        .eq("provision_id", provisionId)
        .eq("attempt", attempt)
        .eq("stream_type", "SYSTEM")
        .order("seq")
        .limit(PAGE_ROWS),
    );
  }

  registerCluster(name, maxConcurrency) {
    return this.#call("register_cluster", { p_name: name, p_max_concurrency: maxConcurrency });
  }

  rotateToken(clusterId, oldExpiresAt) {
    return this.#call("rotate_cluster_token", { p_cluster_id: clusterId, p_old_expires_at: oldExpiresAt });
  }

  revokeToken(tokenId) {
    return this.#call("revoke_cluster_token", { p_token_id: tokenId });
  }

  setOptions(clusterId, { maxConcurrency = null, drain = null }) {
    return this.#call("set_cluster_options", {
      p_cluster_id: clusterId,
      p_max_concurrency: maxConcurrency,
      p_drain: drain,
    });
  }

  cancel(provisionId, force) {
    return this.#call("cancel_provision", { p_provision_id: provisionId, p_force: force });
  }

  /** @param {string} snapshot JSON text, sent as it is */
  async saveConfiguration({ id, clusterId, name, snapshot }) {
    const rows = await this.#callWithText(
      "save_configuration",
      "id",
      { p_cluster_id: clusterId, p_name: name, ...(id ? { p_configuration_id: id } : {}) },
      { p_config_snapshot: snapshot },
    );
    return rows[0];
  }

  /** @param {string} snapshot JSON text, sent as it is */
  async createProvision({ configurationId, clusterId, operation, snapshot, hash }) {
    const rows = await this.#callWithText(
      "create_provision",
      "id",
      {
        p_cluster_id: clusterId,
        p_configuration_id: configurationId,
        p_operation: operation,
        p_configuration_hash: hash,
      },
      { p_config_snapshot: snapshot },
    );
    return rows[0];
  }

  #from(table, columns) {
    return this.client.from(table).select(columns);
  }

  async #rows(query) {
    const { data, error, status } = await query;
    if (error) {
      throw new ApiError(error, status);
    }
    return data;
  }

  /** The first row, or null. */
  async #one(query) {
    return (await this.#rows(query.limit(1)))[0] ?? null;
  }

  async #all(query) {
    const all = [];
    for (;;) {
      const rows = await this.#rows(query().range(all.length, all.length + PAGE_ROWS - 1));
      all.push(...rows);
      if (rows.length < PAGE_ROWS) {
        return all;
      }
    }
  }

  #call(name, args) {
    return this.#rows(this.client.rpc(name, args));
  }

  /** Call a function with some arguments given as JSON text. */
  async #callWithText(name, select, args, texts) {
    const members = [
      ...Object.entries(args).map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`),
      ...Object.entries(texts).map(([key, text]) => `${JSON.stringify(key)}:${text}`),
    ];
    const token = await this.direct.token();
    let response;
    try {
      response = await fetch(`${this.direct.url}/rest/v1/rpc/${name}?select=${select}`, {
        method: "POST",
        headers: {
          apikey: this.direct.anonKey,
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
        },
        body: `{${members.join(",")}}`,
      });
    } catch (error) {
      throw new ApiError({ message: String(error) }, 0);
    }
    const answer = await response.json();
    if (!response.ok) {
      throw new ApiError(answer, response.status);
    }
    return answer;
  }
}
