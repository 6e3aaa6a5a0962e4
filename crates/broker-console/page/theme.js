// Light, dark, or as the system is. All colours are in the stylesheet and follow `color-scheme`.

const STORED = "perennial-theme";

/// Told when colours have changed, for what is painted and not styled.
export const themeChanged = new EventTarget();

export function startTheme(select) {
  const apply = () => {
    document.documentElement.dataset.theme = select.value;
    themeChanged.dispatchEvent(new Event("changed"));
  };
  select.value = localStorage.getItem(STORED) ?? "auto";
  select.addEventListener("change", () => {
    localStorage.setItem(STORED, select.value);
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

/// A colour of the stylesheet as a canvas takes it.
export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
