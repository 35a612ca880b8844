"""The script that spark-submit starts: URIs of orders in, receipts out. Each order names its step."""

from almanac.jobs.run import main

if __name__ == "__main__":
    main()
