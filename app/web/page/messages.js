/** Messages beside the content: banners, and announcements to screen readers. */

import { h } from "./dom.js";

const MAX_ANNOUNCEMENTS = 6;

const liveRegion = document.querySelector("[data-live-region]");

/** Announces a short sentence to screen readers, without interrupting them. */
export function announce(message) {
  liveRegion.append(h("p", {}, message));
  while (liveRegion.childElementCount > MAX_ANNOUNCEMENTS) liveRegion.firstChild.remove();
}

/** @param {"error" | "overview-failed"} name */
export function showBanner(name, title, message) {
  const banner = bannerOf(name);
  banner.querySelector("strong").textContent = title;
  banner.querySelector("span").textContent = message;
  banner.hidden = false;
}

export function hideBanners(...names) {
  for (const name of names) bannerOf(name).hidden = true;
}

const bannerOf = (name) => document.querySelector(`[data-banner=${name}]`);
