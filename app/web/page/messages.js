/** What the page says beside its content: in banners, and to a screen reader. */

import { h } from "./dom.js";

const REMEMBERED = 6;

const spoken = document.querySelector("[data-spoken]");

/** One short sentence; a screen reader gets to it when it has time. */
export function announce(words) {
  spoken.append(h("p", {}, words));
  while (spoken.childElementCount > REMEMBERED) spoken.firstChild.remove();
}

/** @param {"error" | "overview-failed"} name */
export function show(name, title, message) {
  const banner = find(name);
  banner.querySelector("strong").textContent = title;
  banner.querySelector("span").textContent = message;
  banner.hidden = false;
}

export function hide(...names) {
  for (const name of names) find(name).hidden = true;
}

const find = (name) => document.querySelector(`[data-banner=${name}]`);
