/**
 * Who is signed in: Supabase Auth, which keeps and renews the session.
 *
 * A link of `tendril demo` or `tendril dev` signs in on this machine by a code that works once; it
 * stands behind the `#` of the address, which browsers never send, and goes from there at once.
 */

const LINK = /^#\/link\/([^/]+)(\/.*)?$/; // the code, and the view that is meant

export class Session extends EventTarget {
  #session = null;

  /** @param {{url: string, anonKey: string}} plane */
  constructor(plane) {
    super();
    this.plane = plane;
    this.client = globalThis.supabase.createClient(plane.url, plane.anonKey, {
      auth: { storageKey: `tendril:${plane.url}`, detectSessionInUrl: false },
    });
  }

  /** Find the session that was left here, or take one up by the link in the address. */
  async start() {
    const link = LINK.exec(location.hash);
    let problem = null;
    if (link) {
      history.replaceState(null, "", `#${link[2] ?? "/clusters"}`);
      const code = decodeURIComponent(link[1]);
      const { error } = await this.client.auth.verifyOtp({ token_hash: code, type: "magiclink" });
      problem = error && "That link was used already, or is too old. Sign in, or take a fresh one.";
    }
    const { data } = await this.client.auth.getSession();
    this.#session = data.session;
    this.client.auth.onAuthStateChange((_, session) => {
      const changed = session?.user?.id !== this.#session?.user?.id;
      this.#session = session;
      if (changed) {
        this.dispatchEvent(new Event("change"));
      }
    });
    return problem;
  }

  get user() {
    return this.#session?.user ?? null;
  }

  /** The access token, renewed if it is about to end. */
  async token() {
    const { data } = await this.client.auth.getSession();
    return data.session?.access_token ?? "";
  }

  /** @throws {Error} refused, in words for people */
  async signIn(email, password) {
    const { error } = await this.client.auth.signInWithPassword({ email, password });
    if (error) {
      throw new Error(error.message);
    }
  }

  /** Have a link mailed. */
  async sendLink(email) {
    const { error } = await this.client.auth.signInWithOtp({
      email,
      options: { shouldCreateUser: false, emailRedirectTo: location.href.split("#")[0] },
    });
    if (error) {
      throw new Error(error.message);
    }
  }

  async signOut() {
    await this.client.auth.signOut({ scope: "local" });
  }
}
