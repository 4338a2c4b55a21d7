/** The form holds the state of the page; the URL repeats it, so that it can be shared. */

import { SECTIONS } from "./api.js";

const DEMO = document.documentElement.dataset.demo === "true";

/** Fills the forms from the URL, and keeps every required section included. */
export function initForms(form, ...others) {
  document.querySelector("[data-section-options]").append(...SECTIONS.map(sectionOption));
  restoreFromUrl([...form.elements, ...others.flatMap(({ elements }) => [...elements])]);
  for (const name of SECTIONS) form.elements[`fault-${name}`].disabled = !DEMO;
  if (!DEMO) form.elements.user.removeAttribute("list");
  form.addEventListener("change", ({ target }) => keepConsistent(form, target));
  keepConsistent(form);
}

/** @returns {import("./api.js").Query} */
export function readQuery(form) {
  const data = new FormData(form);
  const faults = SECTIONS.map((name) => [name, data.get(`fault-${name}`)]);
  return {
    user: Number(data.get("user")),
    timeout: Number(data.get("timeout")),
    include: data.getAll("include"),
    require: data.getAll("require"),
    faults: Object.fromEntries(faults.filter(([, fault]) => fault)),
  };
}

/** Writes the fields of the forms into the URL. */
export function writeUrl(...forms) {
  const fields = forms
    .flatMap((form) => [...new FormData(form)])
    .filter(([, value]) => value !== "");
  history.replaceState(null, "", `?${new URLSearchParams(fields)}${location.hash}`);
}

/** The row of one section: whether to include and to require it, and how its upstream behaves. */
function sectionOption(name) {
  const row = document.getElementById("section-option").content.cloneNode(true);
  row.querySelector("th").textContent = name;
  for (const box of row.querySelectorAll("input")) {
    box.value = name;
    box.ariaLabel = `${box.name} ${name}`;
  }
  const fault = row.querySelector("select");
  fault.name = `fault-${name}`;
  fault.ariaLabel = `${name} upstream`;
  return row;
}

function restoreFromUrl(controls) {
  const params = new URLSearchParams(location.search);
  for (const control of controls) {
    if (control.type === "checkbox") {
      if (params.has(control.name))
        control.checked = params.getAll(control.name).includes(control.value);
    } else if (params.has(control.name)) {
      control.value = params.get(control.name);
      if (control.selectedIndex === -1) control.selectedIndex = 0;
    }
  }
}

/** A required section is included, an excluded one is not required, and at least one is included. */
function keepConsistent(form, changed) {
  for (const name of SECTIONS) {
    const [include, require] = ["include", "require"].map((what) =>
      form.querySelector(`[name=${what}][value=${name}]`),
    );
    if (include === changed) require.checked &&= include.checked;
    else include.checked ||= require.checked;
  }
  const boxes = [...form.elements.include];
  const none = boxes.every((box) => !box.checked);
  boxes[0].setCustomValidity(none ? "Include at least one section." : "");
}
