"""What spark-submit starts: orders' URIs in, receipts out. Each order says which step it is of."""

from almanac.jobs.run import main

if __name__ == "__main__":
    main()
