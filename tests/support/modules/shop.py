"""A small user module for tests: will a customer visit again within 30 days?"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def customers(visits: DataFrame) -> DataFrame:
    return visits.select("customer").distinct()


def habits(visits: DataFrame, as_of) -> DataFrame:
    age = F.datediff(F.lit(as_of.replace(tzinfo=None)), F.col("at"))
    return visits.groupBy("customer").agg(
        F.count("*").alias("visits"), F.sum("amount").alias("amount"), F.min(age).alias("days_since_visit")
    )


def traits(people: DataFrame) -> DataFrame:
    return people.select("customer", "band")


def returns(visits: DataFrame) -> DataFrame:
    return visits.select("customer").distinct().withColumn("label", F.lit(1))


def estimators():
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    return {
        "logistic": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        "tree": make_pipeline(SimpleImputer(), DecisionTreeClassifier(max_depth=3, random_state=0)),
    }


def checks():
    import great_expectations.expectations as gxe

    return {"features": [gxe.ExpectColumnValuesToBeBetween(column="visits", min_value=1)]}
