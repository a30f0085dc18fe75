// Package queue carries out what comes from a queue of messages: each names channels, and what is to be published there. It knows neither where
// the queue is nor what is in a message.
//
// Messages that name a common channel are carried out one after another, in the order in which they came; others at the same time. One that is refused
// for now is tried again, and those behind it in its channels wait; it is not sent to the queue's end, where it would come behind them.
package queue
