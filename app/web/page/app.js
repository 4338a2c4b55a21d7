/** Sends the requests and passes their results to the parts of the page. */

import { asCurl, overview, overviewPath, SECTIONS } from "./api.js";
import { Batch } from "./batch.js";
import { Card } from "./card.js";
import { ClientError, toClientError } from "./client-error.js";
import { ClientTimeline } from "./client-timeline.js";
import { initForms, readQuery, writeUrl } from "./form.js";
import { announce, hideBanners, showBanner } from "./messages.js";
import { Waterfall } from "./waterfall.js";

const [form, batchForm] = document.forms;
const waterfall = new Waterfall(document.getElementById("waterfall"));
const cards = new Map(
  SECTIONS.map((name) => [name, new Card(name, (href) => retrySection(name, href))]),
);

/** The request in flight, or the last one. */
let current = { query: null, abort: new AbortController(), timeline: null };

async function sendRequest() {
  if (!form.reportValidity()) return;
  current.abort.abort();
  current.timeline?.stop();
  hideBanners("error", "overview-failed");
  const query = readQuery(form);
  const abort = new AbortController();
  for (const [name, card] of cards) card.start(query.include.includes(name));
  const timeline = new ClientTimeline(query.include, (entries) => waterfall.showLive(entries));
  current = { query, abort, timeline };
  document.querySelector("[data-curl]").textContent = asCurl(query);
  try {
    for await (const { event, data } of overview(overviewPath(query), query, abort.signal)) {
      if (abort.signal.aborted) return;
      if (event === "section") completeSection(data);
      if (event === "done") finish(data);
    }
  } catch (error) {
    if (abort.signal.aborted) return;
    waterfall.showFinal(timeline.stop());
    failPending(toClientError(error));
    showError(error);
  }
}

function completeSection({ name, section }) {
  cards.get(name)?.complete(section);
  if (section.status !== "skipped")
    current.timeline.complete(name, section.error?.reason ?? section.status);
}

/** @param {import("./api.js").Done} done */
function finish({ error, complete, timeline = error?.timeline }) {
  const clientTimeline = current.timeline.stop();
  waterfall.showFinal(timeline ?? clientTimeline);
  if (!error) {
    announce(complete ? "The answer is complete." : "The answer is partial.");
    return;
  }
  failPending({ title: error.title, message: error.detail });
  showBanner(
    "overview-failed",
    `The overview failed: ${error.status}, ${error.title}.`,
    error.detail,
  );
  announce(`The overview failed: ${error.title}.`);
}

/** Fails every section that is still pending, all for the same reason. */
function failPending(reason) {
  for (const [name, card] of cards) {
    const href = `v1/users/${current.query.user}/overview?include=${name}`;
    if (card.state === "pending") card.complete(failedSection(reason, href));
  }
}

const failedSection = ({ title, message, retryable = false }, href) => ({
  status: "failed",
  error: { title, detail: message, retryable, href },
});

/** Requests one failed section alone, with the upstream faults currently selected. */
async function retrySection(name, href) {
  const { query, abort } = current;
  const retryQuery = { ...query, faults: readQuery(form).faults };
  let section;
  try {
    for await (const { event, data } of overview(href, retryQuery, abort.signal)) {
      if (event === "section" && data.name === name) section = data.section;
    }
    if (!section)
      throw new ClientError("The answer cannot be read", `It has no section “${name}”.`);
  } catch (error) {
    section = failedSection(toClientError(error), href);
  }
  if (abort.signal.aborted) return undefined;
  if (section.status === "ok" && noOtherSectionFailed(name))
    hideBanners("error", "overview-failed");
  return section;
}

const noOtherSectionFailed = (retried) =>
  [...cards].every(([name, { state }]) => name === retried || state !== "failed");

function showError(error) {
  const { title, message } = toClientError(error);
  showBanner("error", `${title}.`, message);
}

window.addEventListener("error", ({ error, message }) => showError(error ?? message));
window.addEventListener("unhandledrejection", ({ reason }) => showError(reason));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  sendRequest();
});
document.addEventListener("submit", () => writeUrl(form, batchForm));
document.querySelector("[data-cards]").append(...[...cards.values()].map(({ element }) => element));
new Batch(
  document.getElementById("batch"),
  () => form.reportValidity() && readQuery(form),
  showError,
);
initForms(form, batchForm);
sendRequest();
