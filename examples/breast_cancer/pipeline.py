"""A pipeline of one's own, as a team has it before there is a service: unfitted, and it knows no reviewapp."""

from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

model = make_pipeline(StandardScaler(), PCA(10), LogisticRegression(max_iter=1000))
