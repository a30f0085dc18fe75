// The theme follows the system until the button is pressed; the choice is kept.
(() => {
  const key = 'millpond-theme';
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');

  // Storage may be forbidden; the page then works without a memory.
  const stored = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const store = (theme) => { try { localStorage.setItem(key, theme); } catch { /* not kept */ } };
  const current = () => root.dataset.theme ?? (system.matches ? 'dark' : 'light');

  const kept = stored();
  if (kept === 'light' || kept === 'dark') root.dataset.theme = kept;

  document.addEventListener('DOMContentLoaded', () => {
    const name = document.getElementById('theme-name');
    const show = () => { name.textContent = current() === 'dark' ? 'Dark' : 'Light'; };
    document.getElementById('theme').addEventListener('click', () => {
      root.dataset.theme = current() === 'dark' ? 'light' : 'dark';
      store(root.dataset.theme);
      show();
    });
    system.addEventListener('change', show);
    show();
  });
})();
