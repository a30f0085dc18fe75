// Package browser starts a real browser for tests: Debian's chromium, headless,
// with a profile of its own that is empty and goes away with the test.
//
// Start gives a context that chromedp.Do and chromedp.Run take; Screenshot keeps
// a picture for people to look at. It is imported by tests alone.
package browser
