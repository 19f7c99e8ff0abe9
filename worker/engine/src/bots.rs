//! Robots by their user agent: those that say so themselves. Whoever hides is not found this way.

/// Parts of user agents, lower case: crawlers name themselves, libraries keep their default, monitors say what they do.
const SIGNS: [&[u8]; 24] = [
    b"bot",
    b"crawl",
    b"spider",
    b"slurp",
    b"archiver",
    b"facebookexternalhit",
    b"mediapartners",
    b"headless",
    b"phantomjs",
    b"puppeteer",
    b"playwright",
    b"selenium",
    b"curl/",
    b"wget/",
    b"python-requests",
    b"python-urllib",
    b"go-http-client",
    b"java/",
    b"okhttp",
    b"httpclient",
    b"libwww",
    b"pingdom",
    b"uptime",
    b"lighthouse",
];

/// Whether the user agent is a robot's.
#[must_use]
pub fn is_bot(user_agent: &[u8]) -> bool {
    SIGNS.iter().any(|sign| user_agent.windows(sign.len()).any(|part| part.eq_ignore_ascii_case(sign)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robots_that_say_so_are_found() {
        assert!(is_bot(b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"));
        assert!(is_bot(b"curl/8.5.0"));
        assert!(!is_bot(b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36"));
        assert!(!is_bot(b""));
    }
}
