// Keeps the page of a start up to date. What arrives is written as text and never as HTML.
const root = document.querySelector("#gpu-launcher-start");
const MARKS = { done: "✓", now: "◐", ahead: "○", failed: "✕" };
const SPOKEN = { done: "done: ", now: "now: ", ahead: "to come: ", failed: "failed: " };
// A hub that is restarted answers again after some seconds; asking more often helps nobody.
const ASK_AGAIN_MS = 5000;

// JupyterHub's own first message, which says less than this page.
const EMPTY_WORDS = "Server requested";

const part = (name, inside = root) => inside.querySelector(`[data-part="${name}"]`);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let told = JSON.parse(part("data").textContent);
let phase = root.dataset.phase; // pending, leaving (a button was pressed), refused (the hub still cleans up), ended
let source = null;
// The hub's clock, which the page came with and every event sets forward: people's clocks are wrong.
let hub_time = told.now;
let read_at = performance.now();
let last_stage = null;
let alternatives = JSON.stringify(told.alternatives);

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function now() {
  return hub_time + (performance.now() - read_at) / 1000;
}

function set_clock(time) {
  if (!(time > now())) return;
  hub_time = time;
  read_at = performance.now();
}

function in_words(seconds) {
  if (seconds < 10) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90) return `${Math.floor((seconds + 5) / 10) * 10} s`;
  return `${Math.round(seconds / 30) / 2} min`;
}

function took(seconds) {
  if (typeof seconds !== "number") return "";
  return seconds < 100 ? `${Math.floor(seconds)} s` : clock(seconds);
}

// A bound is never below the figure.
function under(seconds) {
  if (seconds < 10) return `${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds <= 60) {
    const step = seconds <= 30 ? 5 : 10;
    return `${Math.ceil(seconds / step) * step} s`;
  }
  const [minutes, rest] = [Math.floor(Math.ceil(seconds / 30) / 2), (Math.ceil(seconds / 30) % 2) * 30];
  return rest ? `${minutes}:${rest}` : `${minutes} min`;
}

// The launcher estimates anew with each event; in between the time that passed is taken off.
function time_left(since) {
  if (!told.eta) return "";
  const bound = told.eta.words.match(/\((\S+) under/);
  if (since < 1 || !bound) return ` · ${told.eta.words}`;
  const [half, most] = [told.eta.p50_s - since, told.eta.p90_s - since];
  if (half >= 1) return ` · about ${in_words(half)} left (${bound[1]} under ${under(most)})`;
  return most >= 1 ? ` · ${bound[1]} under ${under(most)} left` : " · longer than usual";
}

function tick() {
  if (phase === "ended" || phase === "refused") return;
  const since = Math.max(0, now() - told.now);
  write(part("clock"), `${clock(told.elapsed_s + since)} elapsed${time_left(since)}`);
  told.lines.forEach((line, index) => {
    const item = part("lines").children[index];
    if (line.state === "now" && item) write(part("took", item), took((line.seconds ?? 0) + since));
  });
}

function show_line(line, index) {
  const list = part("lines");
  if (!list.children[index]) list.append(part("row").content.cloneNode(true));
  const item = list.children[index];
  item.dataset.state = line.state;
  item.toggleAttribute("data-overrun", Boolean(line.overrun));
  write(part("mark", item), MARKS[line.state] ?? "");
  write(part("spoken", item), SPOKEN[line.state] ?? "");
  for (const name of ["words", "detail", "usual"]) write(part(name, item), line[name] ?? "");
  write(part("took", item), took(line.seconds));
}

function show_list(list, texts) {
  while (list.children.length > texts.length) list.lastElementChild.remove();
  texts.forEach((text, index) => {
    write(list.children[index] ?? list.appendChild(document.createElement("li")), text);
  });
}

function show_alternatives() {
  const offered = JSON.stringify(told.alternatives);
  if (offered === alternatives) return;
  alternatives = offered;
  part("alternatives").replaceChildren(...told.alternatives.map((one) => {
    const form = part("alternative").content.cloneNode(true);
    form.querySelector("[name=profile]").value = one.profile;
    const price = typeof one.usd_per_hour === "number" ? `$${one.usd_per_hour.toFixed(2)}/h` : "";
    form.querySelector("button").textContent = [one.title, one.words, price].filter(Boolean).join(" · ");
    return form;
  }));
}

// Politely, and once a stage: a clock that speaks is a nuisance.
function announce() {
  const current = told.lines.find((line) => line.state === "now");
  if (!current || current.stage === last_stage) return;
  if (last_stage !== null) write(part("announced"), current.words);
  last_stage = current.stage;
}

function show() {
  const lines = part("lines");
  while (lines.children.length > told.lines.length) lines.lastElementChild.remove();
  told.lines.forEach(show_line);
  lines.hidden = !told.lines.length;
  const tried = told.tried.filter((words) => !told.lines.some((line) => line.words.includes(words)));
  show_list(part("tried-list"), tried);
  part("tried").hidden = !tried.length;
  write(part("unknown-words"), told.unknown.join("; "));
  part("unknown").hidden = !told.unknown.length;
  if (phase === "pending") write(part("heading"), `Starting ${called()}`);
  write(part("price"), told.price && phase === "pending" ? `${told.price.words} from the moment the machine runs` : "");
  show_alternatives();
  part("instead").hidden = !told.alternatives.length;
  announce();
  tick();
}

function other_message(text) {
  const list = part("messages-list");
  if (!text || text === EMPTY_WORDS || list.lastElementChild?.textContent === text) return;
  list.append(Object.assign(document.createElement("li"), { textContent: text }));
  part("messages").hidden = false;
}

function called() {
  return `${told.title || "your server"} for "${told.server || "default"}"`;
}

function end(heading, clock_words) {
  const had_focus = root.contains(document.activeElement);
  write(part("heading"), heading);
  write(part("clock"), clock_words);
  write(part("price"), "");
  document.title = heading;
  part("stop").hidden = true;
  for (const name of ["again", "choose"]) part(name).hidden = false;
  busy(false);
  if (had_focus) part("heading").focus();
}

function refused() {
  phase = "refused";
  write(part("message"), told.refusal.message);
  write(part("reference"), told.refusal.reference ?? "");
  part("reference-line").hidden = !told.refusal.reference;
  end(`${called()} did not start`, `${clock(told.elapsed_s)} in all`);
  show();
  part("refusal").hidden = false;
  part("refusal").after(part("actions"));
}

function hear(event) {
  const news = event.gpu_launcher;
  if (phase === "leaving") {
    // A start that is being stopped ends as the hub sees it, for a moment even as ready.
    if (event.ready || event.failed) source.close();
  } else if (event.ready) {
    source.close();
    write(part("status"), "Ready. Opening it.");
    location.reload(); // the hub sends on to the server, or to where the person wanted to go
  } else if (event.failed) {
    source.close();
    if (phase === "refused") phase = "ended";
    // The hub's page has words for what the launcher did not see coming.
    else if (phase === "pending") location.reload();
  } else if (news === undefined) {
    other_message(event.message ?? new DOMParser().parseFromString(event.html_message ?? "", "text/html").body.textContent);
  } else if (news && news.now >= told.now && phase === "pending") {
    // The stream begins with what was told before (without data), and this page is newer than that.
    told = news;
    set_clock(news.now);
    if (news.refusal) refused();
    else show();
  }
}

function follow() {
  source = new EventSource(root.dataset.progress);
  source.onopen = () => write(part("status"), "");
  source.onmessage = (message) => hear(JSON.parse(message.data));
  source.onerror = () => {
    if (phase === "refused" && source.readyState === EventSource.CLOSED) phase = "ended";
    if (phase !== "pending") return;
    write(part("status"), "The hub does not answer at the moment. The start goes on; this page tries again.");
    if (source.readyState === EventSource.CLOSED) setTimeout(look_again, ASK_AGAIN_MS);
  };
}

// The page itself knows what became of the start; while the hub is away, this one is better than none.
async function look_again() {
  if (phase !== "pending") return;
  try {
    const answer = await fetch(location.href, { redirect: "manual", cache: "no-store" });
    if (answer.type === "opaqueredirect" || answer.status < 502) {
      location.reload();
      return;
    }
  } catch {
    // no answer either
  }
  setTimeout(look_again, ASK_AGAIN_MS);
}

// Not `disabled`, which would take the focus away from who pressed it.
function busy(is) {
  for (const button of root.querySelectorAll("button")) {
    button.setAttribute("aria-disabled", is);
    button.classList.toggle("disabled", is);
  }
}

// Ends when the server is gone. While the hub still stops it, it answers 202, and asking again changes nothing.
async function stop_server() {
  for (;;) {
    const answer = await fetch(root.dataset.server, { method: "DELETE", headers: { "Content-Type": "application/json" } });
    if (answer.status === 204 || answer.status === 404) return;
    if (answer.status === 403) throw new Error("You are not allowed to stop this server.");
    if (answer.status !== 202) throw new Error(`The hub could not stop the server (answer ${answer.status}). Try again.`);
    await pause(1000);
  }
}

async function leave(words) {
  const before = phase;
  phase = "leaving";
  busy(true);
  write(part("status"), words);
  try {
    await stop_server();
  } catch (error) {
    phase = before;
    busy(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(look_again, ASK_AGAIN_MS);
    write(part("status"), error instanceof TypeError ? "The hub does not answer. Try again." : error.message);
    return false;
  }
  return true;
}

async function stop() {
  if (phase !== "pending" || !(await leave("Stopping."))) return;
  source.close();
  phase = "ended";
  write(part("status"), "");
  const elapsed = told.elapsed_s + Math.max(0, now() - told.now);
  told.lines = told.lines
    .filter((line) => line.state !== "ahead")
    .map((line) => (line.state === "now" ? { ...line, state: "failed", usual: "" } : line));
  end(`Stopped: ${called()}`, `after ${clock(elapsed)}`);
  show();
}

async function start_instead(event) {
  const form = event.target;
  const next = new URLSearchParams(location.search).get("next");
  if (next) {
    const url = new URL(form.action);
    url.searchParams.set("next", next);
    form.action = url;
  }
  if (phase === "ended") {
    phase = "leaving";
    busy(true);
    return; // the browser posts the form
  }
  event.preventDefault();
  if (phase === "leaving") return;
  if (await leave(`Ending this start, then starting ${form.querySelector("button").textContent}.`)) form.submit();
}

root.addEventListener("submit", start_instead);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // what the browser kept is old
});
document.title = part("heading").textContent;
if (phase === "pending") {
  part("stop").hidden = false;
  part("stop").addEventListener("click", stop);
  show();
  follow();
  setInterval(tick, 1000);
}
