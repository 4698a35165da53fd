// What became of the faces: a bar of their shares, and what its colours mean.

const RUNGS = [
  ["restored", "Restored"],
  ["bypassed", "Already sharp"],
  ["cached", "Older detail, no time"],
  ["skipped", "Original, no time"],
  ["unsure", "Profile or hidden"],
  ["too_small", "Too small"],
];

/** counts: faces by what became of them; null: there were none. */
export function drawRungs(bar, counts) {
  const shares = sharesOf(counts);
  if (!bar.childElementCount) bar.append(...shares.map((one) => coloured(one.hue)));
  shares.forEach((one, index) => {
    bar.children[index].style.flexGrow = one.share;
    bar.children[index].hidden = one.share === 0;
  });
  const text = shares.map((one) => `${one.label} ${percent(one.share)}`).join(", ");
  bar.setAttribute("aria-label", counts ? text : "No faces");
}

/** With the shares of counts, or without. */
export function drawLegend(legend, counts = null) {
  legend.replaceChildren(...sharesOf(counts).map((one) => {
    const item = document.createElement("li");
    item.append(coloured(one.hue), one.label);
    if (counts) {
      const value = document.createElement("span");
      value.textContent = percent(one.share);
      item.append(value);
    }
    return item;
  }));
}

function sharesOf(counts) {
  const total = counts ? RUNGS.reduce((n, [key]) => n + counts[key], 0) : 1;
  return RUNGS.map(([key, label], index) => ({
    label,
    share: counts ? counts[key] / total : 0,
    hue: `var(--rung-${index + 1})`,
  }));
}

function coloured(hue) {
  const part = document.createElement("i");
  part.style.setProperty("--hue", hue);
  return part;
}

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
