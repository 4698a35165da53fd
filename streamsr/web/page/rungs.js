// The bar of rungs: what became of the faces.

const RUNGS = [
  ["restored", "Restored"],
  ["bypassed", "Already sharp"],
  ["cached", "Older detail, no time"],
  ["skipped", "Original, no time"],
  ["unsure", "Profile or hidden"],
  ["too_small", "Too small"],
];

/** counts: faces by what became of them. */
export function drawRungs(bar, legend, counts) {
  const total = RUNGS.reduce((n, [key]) => n + counts[key], 0);
  const shares = RUNGS.map(([key, label], index) => ({ label, share: counts[key] / total, hue: `var(--rung-${index + 1})` }));
  bar.replaceChildren(...shares.filter((one) => one.share > 0).map((one) => {
    const part = document.createElement("i");
    part.style.setProperty("--hue", one.hue);
    part.style.flexGrow = one.share;
    return part;
  }));
  bar.setAttribute("aria-label", shares.map((one) => `${one.label} ${percent(one.share)}`).join(", "));
  legend.replaceChildren(...shares.map((one) => {
    const item = document.createElement("li");
    const dot = document.createElement("i");
    dot.style.setProperty("--hue", one.hue);
    const value = document.createElement("span");
    value.textContent = percent(one.share);
    item.append(dot, one.label, value);
    return item;
  }));
}

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
