// Opens what is folded, loads what waits, and returns the headings. Chromium names those places in a
// PDF that a link of the same page leads to, so that hidden links lead to all of them.
async () => {
  for (const fold of document.querySelectorAll('details')) fold.open = true;
  for (const fold of document.querySelectorAll('.toggle-hidden'))
    fold.classList.remove('toggle-hidden');
  for (const image of document.images) {
    image.loading = 'eager';
    await image.decode().catch(() => {});
  }
  await document.fonts.ready;
  for (const block of document.querySelectorAll('.cell_input, .cell_output, .admonition'))
    if (block.offsetHeight < 300) block.style.breakInside = 'avoid';
  const headings = [...document.querySelectorAll('article :is(h1, h2, h3)')].map(heading => ({
    anchor: heading.closest('[id]')?.id ?? '',
    level: Number(heading.tagName[1]),
    title: [...heading.childNodes].filter(part => !part.classList?.contains('headerlink'))
      .map(part => part.textContent).join('').trim(),
  }));
  for (const place of document.querySelectorAll('article [id], article[id]')) {
    const link = document.createElement('a');
    link.href = '#' + encodeURIComponent(place.id);
    link.hidden = true;
    document.body.append(link);
  }
  return headings;
}
